//! Type references: what keeps a frame's type.

use crate::kit::atomic::Ordering;

use super::{Memory, PageType, Progress, Refused, Types, Work, check_descriptor};
use crate::kit::{DomId, Mfn};
use crate::mm::Frame;
use crate::mm::frame::State;

/// A reference and a type reference of a frame, held until this goes. Only of types that are given
/// up at once: [`PageType::Writable`] and [`PageType::SegDesc`].
#[derive(Debug)]
pub struct TypedRef<'a, M: Memory> {
    types: &'a Types<M>,
    mfn: Mfn,
}

impl<M: Memory> TypedRef<'_, M> {
    /// The frame's number.
    pub const fn mfn(&self) -> Mfn {
        self.mfn
    }
    /// Goes on without this value: something else now holds both references, and gives them back
    /// by [`Types::put_simple`].
    pub fn keep(self) -> Mfn {
        let mfn = self.mfn;
        core::mem::forget(self);
        mfn
    }
}

impl<M: Memory> Drop for TypedRef<'_, M> {
    fn drop(&mut self) {
        self.types.put_simple(self.mfn);
    }
}

/// What a look at the state word says to somebody who wants a type.
enum Claim {
    /// There; the count went up.
    Shared,
    /// Nobody had it: this CPU has made the frame busy and sees to the contents.
    Mine { was: PageType },
    /// Half-way; this CPU has made the frame busy and goes on.
    Resumed,
}

impl<M: Memory> Types<M> {
    /// A writable reference of a frame of `owner`.
    #[inline]
    pub fn get_writable(&self, mfn: Mfn, owner: DomId) -> Option<TypedRef<'_, M>> {
        if self.take_writable(mfn, self.0.entry(mfn)?, owner) {
            return Some(TypedRef { types: self, mfn });
        }
        self.get_simple(mfn, owner, PageType::Writable)
    }

    /// A reference of a frame of `owner` as a page of segment descriptors.
    pub fn get_segdesc(&self, mfn: Mfn, owner: DomId) -> Option<TypedRef<'_, M>> {
        self.get_simple(mfn, owner, PageType::SegDesc)
    }

    /// As [`Self::get_segdesc`], but only if it is in use as that now; with its state.
    pub fn get_segdesc_in_use(&self, mfn: Mfn, owner: DomId) -> Option<(TypedRef<'_, M>, State)> {
        let page = self.get_page(mfn, owner)?;
        let frame = page.frame();
        let mut state = frame.load();
        loop {
            let there = state.type_bits() == PageType::SegDesc as u64
                && state.type_refs() > 0
                && state.has(State::VALIDATED);
            if !there || !state.can_type_ref() {
                return None;
            }
            match frame.change(state, state.plus(State::TYPE_REF)) {
                Ok(()) => {
                    let held = TypedRef {
                        types: self,
                        mfn: page.keep(),
                    };
                    return Some((held, state));
                }
                Err(now) => state = now,
            }
        }
    }

    #[inline(never)] // off the path of grants and of frames that are written
    fn get_simple(&self, mfn: Mfn, owner: DomId, ty: PageType) -> Option<TypedRef<'_, M>> {
        let page = self.get_page(mfn, owner)?;
        self.get_type(mfn, page.frame(), ty, &mut Work::new())
            .ok()?;
        Some(TypedRef {
            types: self,
            mfn: page.keep(),
        })
    }

    /// Gives back both references of a kept [`TypedRef`].
    pub fn put_simple(&self, mfn: Mfn) {
        if let Some(frame) = self.0.frame(mfn) {
            if frame.load().type_bits() == PageType::Writable as u64 {
                return self.put_writable(mfn, frame);
            }
            // Such a type has nothing to take apart.
            let Progress::Done = self.put_type(mfn, frame, &mut Work::new()) else {
                return;
            };
            self.put_frame(mfn, frame);
        }
    }

    /// A reference and a type reference of a frame of `owner`. Refused, it holds nothing.
    pub(super) fn get_page_and_type(
        &self,
        mfn: Mfn,
        owner: DomId,
        ty: PageType,
        work: &mut Work,
    ) -> Result<(), Refused> {
        let page = self.get_page(mfn, owner).ok_or(Refused::Invalid)?;
        self.get_type(mfn, page.frame(), ty, work)?;
        page.keep();
        Ok(())
    }

    /// Gives back a reference and a type reference. They are gone in any case; [`Progress::Again`]
    /// says that the table which has lost its last is not yet taken apart.
    pub(super) fn put_page_and_type(&self, mfn: Mfn, work: &mut Work) -> Progress {
        let Some(frame) = self.0.frame(mfn) else {
            return Progress::Done;
        };
        let progress = self.put_type(mfn, frame, work);
        self.put_frame(mfn, frame);
        progress
    }

    /// A type reference. The caller holds a reference, and still does when this is refused.
    pub(super) fn get_type(
        &self,
        mfn: Mfn,
        frame: &Frame,
        ty: PageType,
        work: &mut Work,
    ) -> Result<(), Refused> {
        let was = match self.claim(frame, ty)? {
            Claim::Shared => return Ok(()),
            Claim::Mine { was } => was,
            Claim::Resumed => ty,
        };
        if was != ty && was != PageType::None {
            let stamp = frame.stamp.load(Ordering::Relaxed);
            self.0.flush_stale(frame.owner(), stamp);
        }
        let checked = match ty.level() {
            Some(level) => self.validate(mfn, frame, level, work),
            None if ty == PageType::SegDesc => self.check_descriptors(mfn),
            None => Ok(()),
        };
        match checked {
            Ok(()) => {
                frame.state.fetch_or(State::VALIDATED, Ordering::AcqRel);
                Ok(())
            }
            Err(Refused::Again) => {
                self.stop_half_way(frame);
                if self.0.domain(frame.owner()).is_none_or(|d| d.is_dying()) {
                    // Its destruction may have gone past this frame.
                    work.note(mfn);
                }
                Err(Refused::Again)
            }
            Err(why) => {
                // What was validated before the fault has to be taken apart again.
                let _ = self.take_apart(mfn, frame, ty, work);
                Err(why)
            }
        }
    }

    /// Waits until the frame can be had as `ty`, and has it.
    fn claim(&self, frame: &Frame, ty: PageType) -> Result<Claim, Refused> {
        let mut state = frame.load();
        loop {
            let was = PageType::from_bits(state.type_bits());
            let (new, claim) = if state.type_refs() == 0 {
                let base = state.0 & !(State::TYPE_MASK | State::VALIDATED);
                // The count is zero: or is plus.
                let new = base | (ty as u64) << State::TYPE_SHIFT | State::TYPE_REF;
                // A writable frame has no contents to check and, if it was nothing that another
                // CPU may still use, nothing to wait for.
                if ty == PageType::Writable && (was == ty || was == PageType::None) {
                    (new | State::VALIDATED, Claim::Shared)
                } else {
                    (new, Claim::Mine { was })
                }
            } else if was != ty {
                return Err(Refused::Invalid);
            } else if state.has(State::PARTIAL) {
                (state.minus(State::PARTIAL + State::REF), Claim::Resumed)
            } else if !state.has(State::VALIDATED) {
                self.wait_for(ty)?;
                state = frame.load();
                continue;
            } else if state.can_type_ref() {
                (state.plus(State::TYPE_REF), Claim::Shared)
            } else {
                return Err(Refused::Busy);
            };
            match frame.change(state, new) {
                Ok(()) => return Ok(claim),
                Err(now) => state = now,
            }
        }
    }

    /// Another CPU works on the frame: a short while, except for the larger tables.
    fn wait_for(&self, ty: PageType) -> Result<(), Refused> {
        if ty.level().is_some_and(|level| level > 1) && self.0.preempt() {
            return Err(Refused::Again);
        }
        self.0.wait();
        Ok(())
    }

    /// Drops a type reference; the caller holds a reference, and still does after.
    pub(super) fn put_type(&self, mfn: Mfn, frame: &Frame, work: &mut Work) -> Progress {
        let mut state = frame.load();
        loop {
            debug_assert!(
                state.type_refs() > 0,
                "{mfn:?} {state:?}: a type reference too few"
            );
            if state.type_refs() == 0 {
                return Progress::Done;
            }
            let last = state.type_refs() == 1;
            let new = if last {
                state.0 & !State::VALIDATED
            } else {
                state.minus(State::TYPE_REF)
            };
            match frame.change(state, new) {
                Ok(()) if last => break,
                Ok(()) => return Progress::Done,
                Err(now) => state = now,
            }
        }
        self.take_apart(mfn, frame, PageType::from_bits(state.type_bits()), work)
    }

    /// Ends the type of a busy frame: takes the contents apart, then gives the type up or, half-way,
    /// leaves the frame partial. So it also leaves a table that may not be taken apart now
    /// ([`Work::may_descend_to`]): that one is in `work`, and done with for the caller.
    pub(super) fn take_apart(
        &self,
        mfn: Mfn,
        frame: &Frame,
        ty: PageType,
        work: &mut Work,
    ) -> Progress {
        let progress = match ty.level() {
            Some(level) if !work.may_descend_to(level) => {
                work.note_aside(mfn);
                self.stop_half_way(frame);
                return Progress::Done;
            }
            Some(level) => work.descend(level, |work| self.devalidate(mfn, frame, level, work)),
            None => Progress::Done,
        };
        match progress {
            Progress::Done => {
                // The stamp goes before the count: who finds the count at zero must find it.
                frame.stamp.store(self.0.stamp(), Ordering::Relaxed);
                frame.state.fetch_sub(State::TYPE_REF, Ordering::AcqRel);
            }
            Progress::Again => {
                work.note(mfn);
                self.stop_half_way(frame);
            }
        }
        progress
    }

    /// A busy frame becomes partial, with a reference of its own.
    fn stop_half_way(&self, frame: &Frame) {
        frame
            .state
            .fetch_add(State::PARTIAL + State::REF, Ordering::AcqRel);
    }

    /// Goes on taking a partial frame apart; nothing to do if it is not partial any more.
    pub(super) fn undo_partial(&self, mfn: Mfn, work: &mut Work) -> Progress {
        let Some(page) = self.get_page_to_end(mfn) else {
            return Progress::Done;
        };
        let frame = page.frame();
        let mut state = frame.load();
        loop {
            if !state.has(State::PARTIAL) {
                return Progress::Done;
            }
            match frame.change(state, state.minus(State::PARTIAL + State::REF)) {
                Ok(()) => break,
                Err(now) => state = now,
            }
        }
        self.take_apart(mfn, frame, PageType::from_bits(state.type_bits()), work)
    }

    /// Checks a page of segment descriptors, and stores them as the core wants them.
    fn check_descriptors(&self, mfn: Mfn) -> Result<(), Refused> {
        let words = self.0.words(mfn).ok_or(Refused::Invalid)?;
        for word in words {
            let old = word.load(Ordering::Relaxed);
            let new = check_descriptor(old).ok_or(Refused::Invalid)?;
            if new != old {
                word.store(new, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}
