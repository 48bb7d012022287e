//! Both references of a frame in one step, as nearly every change of an L1 entry needs them. If more than
//! counting is required, these functions do nothing and say so. The caller then takes the separate steps of
//! [`super::refs`] and [`super::typed`].
//!
//! If the caller has first seen a frame in use, and then as `owner`'s, then the frame stays `owner`'s until
//! these functions have counted. The reason is that a frame gets another owner only after each CPU has flushed
//! its TLB since the frame went out of use ([`crate::mm::stale`]), and this CPU doesn't flush in between. So
//! another domain's frame is never referenced, not even for a moment. The order matters: a CPU that frees a
//! frame takes the time when the frame is out of use, and only then removes the owner's name.

use crate::kit::atomic::Ordering;

use super::{Memory, PageType, Pte, Types, Work};
use crate::kit::{DomId, Mfn};
use crate::mm::Frame;
use crate::mm::frame::{Kind, State};

const BOTH: u64 = State::REF + State::TYPE_REF;
const WRITABLE: u64 = PageType::Writable as u64;

impl<M: Memory> Types<M> {
    /// Takes the references of an L1 entry that maps a frame of `owner`, if the entry is of the usual kind:
    /// present, of RAM, without a choice of caching. Returns the frame. Other entries, and those to be refused,
    /// are for [`Types::get_l1`].
    #[inline(always)] // on the path of every entry
    pub(super) fn take_usual(&self, pte: Pte, owner: DomId) -> Option<&Frame> {
        let frame = self.0.entry(pte.mfn()).filter(|_| pte.is_usual())?;
        self.take_mapping(pte, frame, owner).then_some(frame)
    }

    /// Takes the references of a mapping of a frame of `owner`, if only counting is required. False if
    /// it is not.
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

    /// Takes both references for a writable mapping of a frame of `owner`, if the frame is in use as writable,
    /// or has no type reference. False if it is not.
    #[inline(always)] // on the path of every entry
    pub(super) fn take_writable(&self, mfn: Mfn, frame: &Frame, owner: DomId) -> bool {
        self.take_writable_times::<1>(mfn, frame, owner)
    }

    /// Like [`Self::take_writable`], for two uses: a grant's handle, and the entry that maps it. Each of them
    /// drops its references separately.
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
            // There is room: a request never gets the upper half of the range of a count.
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

    /// Drops both references of a writable mapping.
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

    /// Like [`Self::put_writable`], for a frame that was seen as `state`: with its last writable mapping,
    /// or not RAM.
    ///
    /// The type ends in three steps: busy, stamp, release. Suppose instead that the stamp was taken first, and
    /// the word then changed by one compare-exchange. In between, the word could come back to the same value:
    /// another CPU maps the frame once more, a third CPU writes through that mapping after the flush that the
    /// stamp stands for, and the mapping goes again. The stamp would then be older than the third CPU's
    /// translation. While the frame is busy, no entry maps it writable, so no translation is younger than a
    /// stamp taken now.
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

    /// Takes both references to a validated page table of `owner`. Returns the table's state.
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

    /// Drops both references to a page table. `work` records the table if these were its last.
    #[inline(always)] // on the path of every entry
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

/// Returns the state to which a writable mapping adds its references. `None` if more than counting is required.
#[inline(always)] // on the path of every entry
fn writable_base(state: State) -> Option<State> {
    if state.type_bits() == WRITABLE && state.can_share() {
        Some(state)
    } else {
        first_writable_base(state)
    }
}

/// Like [`writable_base`], for the first writable mapping of a frame.
#[inline(always)] // on the path of most entries
fn first_writable_base(state: State) -> Option<State> {
    let unused = state.type_refs() == 0 && matches!(state.type_bits(), 0 | WRITABLE);
    let can = unused && state.refs() > 0 && state.can_ref();
    can.then_some(State(
        state.0 | WRITABLE << State::TYPE_SHIFT | State::VALIDATED,
    ))
}
