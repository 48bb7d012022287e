//! Both references of a frame in one step: what nearly every change of an L1 entry takes and gives
//! back. Where there is more to it than counting, these do nothing and say so; then the steps of
//! [`super::refs`] and [`super::typed`] are taken one by one.
//!
//! A frame that the caller has seen in use, and then as `owner`'s, stays so until these have counted: it gets
//! another owner only after each CPU has flushed since it went out of use ([`crate::mm::stale`]), and this one
//! doesn't in between. So no other domain's frame is ever held, not even for a moment. The order matters:
//! who frees a frame takes the time when it is out of use, and only then its owner's name off.

use crate::kit::atomic::Ordering;

use super::{Memory, PageType, Pte, Types, Work};
use crate::kit::{DomId, Mfn};
use crate::mm::Frame;
use crate::mm::frame::{Kind, State};

const BOTH: u64 = State::REF + State::TYPE_REF;
const WRITABLE: u64 = PageType::Writable as u64;

impl<M: Memory> Types<M> {
    /// Takes what an L1 entry holds that maps a frame of `owner`, if it is as nearly all are: present,
    /// of RAM, without a choice of caching. Gives the frame. All else, and what is to be refused, is
    /// for [`Types::get_l1`].
    #[inline(always)] // on the path of every entry
    pub(super) fn take_usual(&self, pte: Pte, owner: DomId) -> Option<&Frame> {
        let frame = self.0.entry(pte.mfn()).filter(|_| pte.is_usual())?;
        self.take_mapping(pte, frame, owner).then_some(frame)
    }

    /// Takes what a mapping of a frame of `owner` holds, where that is all there is to it; tells
    /// whether it did.
    #[inline(always)] // on the path of every entry
    pub(super) fn take_mapping(&self, pte: Pte, frame: &Frame, owner: DomId) -> bool {
        if pte.is_writable() {
            return self.take_writable(pte.mfn(), frame, owner);
        }
        match self.get_page_of(pte.mfn(), frame, owner) {
            Some(page) => {
                page.keep();
                true
            }
            None => false,
        }
    }

    /// Takes both for a writable mapping of a frame of `owner` that is in use as such, or as
    /// nothing; tells whether it did.
    #[inline(always)] // on the path of every entry
    pub(super) fn take_writable(&self, mfn: Mfn, frame: &Frame, owner: DomId) -> bool {
        self.take_writable_times::<1>(mfn, frame, owner)
    }

    /// The same for two uses: a grant's handle and the entry that maps it. Each is given back by
    /// itself.
    #[inline]
    pub fn take_writable_twice(&self, mfn: Mfn, owner: DomId) -> bool {
        let frame = self.0.entry(mfn);
        frame.is_some_and(|frame| self.take_writable_times::<2>(mfn, frame, owner))
    }

    #[inline(always)] // on the path of every entry
    fn take_writable_times<const TIMES: u64>(&self, mfn: Mfn, frame: &Frame, owner: DomId) -> bool {
        let mut state = frame.load();
        if frame.owner() != owner {
            return false;
        }
        loop {
            let Some(base) = writable_base(state) else {
                return false;
            };
            // There is room: who asks gets none of the upper half of what can be counted.
            match frame.change(state, base.plus(const { BOTH * TIMES })) {
                Ok(()) => break,
                Err(now) => state = now,
            }
        }
        let still = frame.owner() == owner;
        if !still {
            (0..TIMES).for_each(|_| self.put_writable(mfn, frame));
        }
        still
    }

    /// Gives back both of a writable mapping.
    #[inline(always)] // on the path of every entry
    pub(super) fn put_writable(&self, mfn: Mfn, frame: &Frame) {
        let mut state = frame.load();
        while state.type_refs() > 1 {
            match frame.change(state, state.minus(BOTH)) {
                Ok(()) => return,
                Err(now) => state = now,
            }
        }
        self.put_last_writable(mfn, frame, state);
    }

    /// As [`Self::put_writable`], where the frame was seen as `state`: mapped writable for the last
    /// time, or no RAM.
    ///
    /// The type goes in three steps: busy, stamp, release. With the stamp taken first and the word
    /// changed by one compare-exchange, the word could come back in between: another CPU maps the
    /// frame once more, a third one writes through that mapping after a flush that the stamp asks
    /// for, and the mapping goes again. The stamp would then miss the third CPU's translation.
    /// While the frame is busy no entry maps it writable, so no translation is younger than a stamp
    /// taken now.
    #[inline(always)] // on the path of most entries
    fn put_last_writable(&self, mfn: Mfn, frame: &Frame, mut state: State) {
        loop {
            let (new, last) = match state.type_refs() {
                // Mappings of devices hold nothing.
                0 => return debug_assert_eq!(state.kind(), Kind::NotRam, "{mfn:?} {state:?}"),
                1 => (state.0 & !State::VALIDATED, true),
                _ => (state.minus(BOTH), false),
            };
            match frame.change(state, new) {
                Ok(()) if last => break,
                Ok(()) => return,
                Err(now) => state = now,
            }
        }
        frame.stamp.store(self.0.stamp(), Ordering::Relaxed);
        let before = State(frame.state.fetch_sub(BOTH, Ordering::AcqRel));
        if before.refs() == 1 {
            self.release(mfn, frame);
        }
    }

    /// Takes both of a validated page table of `owner`; tells what its state was.
    #[inline]
    pub(super) fn take_table(&self, mfn: Mfn, frame: &Frame, owner: DomId) -> Option<State> {
        let mut state = frame.load();
        if frame.owner() != owner {
            return None;
        }
        loop {
            let is_table = PageType::from_bits(state.type_bits()).level().is_some();
            if !is_table || !state.can_share() {
                return None;
            }
            match frame.change(state, state.plus(BOTH)) {
                Ok(()) => break,
                Err(now) => state = now,
            }
        }
        if frame.owner() == owner {
            return Some(state);
        }
        self.put_table(mfn, frame, &mut Work::new());
        None
    }

    /// Gives back both of a page table. `work` notes it if it has lost its last.
    #[inline]
    pub(super) fn put_table(&self, mfn: Mfn, frame: &Frame, work: &mut Work) {
        let mut state = frame.load();
        while state.refs() > 1 && state.type_refs() > 1 {
            match frame.change(state, state.minus(BOTH)) {
                Ok(()) => return,
                Err(now) => state = now,
            }
        }
        let mut last = Work::new();
        let _ = self.put_type(mfn, frame, &mut last);
        work.and(last);
        self.put_frame(mfn, frame);
    }
}

/// The state to which a writable mapping adds its two references; nothing if it takes more.
#[inline(always)] // on the path of every entry
fn writable_base(state: State) -> Option<State> {
    if state.type_bits() == WRITABLE && state.can_share() {
        Some(state)
    } else {
        first_writable_base(state)
    }
}

/// The same for the first such mapping.
#[inline]
fn first_writable_base(state: State) -> Option<State> {
    let unused = state.type_refs() == 0 && matches!(state.type_bits(), 0 | WRITABLE);
    let can = unused && state.refs() > 0 && state.can_ref();
    can.then_some(State(
        state.0 | WRITABLE << State::TYPE_SHIFT | State::VALIDATED,
    ))
}
