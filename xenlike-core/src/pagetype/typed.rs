//! Type references, which make a frame keep its type.

use crate::kit::atomic::Ordering;

use super::shape::Shape;
use super::{Memory, PageType, Progress, Refused, Types, Work, check_descriptor};
use crate::kit::{DomId, Mfn};
use crate::mm::Frame;
use crate::mm::frame::State;

/// A reference and a type reference to a frame, held until this value is dropped. Only for types that are given
/// up at once: [`PageType::Writable`] and [`PageType::SegDesc`].
#[derive(Debug)]
pub struct TypedRef<'a, M: Memory> {
    types: &'a Types<M>,
    mfn: Mfn,
}

impl<M: Memory> TypedRef<'_, M> {
    /// Returns the frame's number.
    pub const fn mfn(&self) -> Mfn {
        self.mfn
    }
    /// Drops this value, but keeps the references: something else holds them now, and drops
    /// them by [`Types::put_simple`].
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

/// The result of claiming a type by the state word.
enum Claim {
    /// The frame has the type, and the count was increased.
    Shared,
    /// There was no type reference. This CPU has made the frame busy and must check its contents.
    Mine { was: PageType },
    /// The frame was partial. This CPU has made it busy and must continue the validation.
    Resumed,
}

impl<M: Memory> Types<M> {
    /// Takes a writable reference to a frame of `owner`.
    #[inline]
    pub fn get_writable(&self, mfn: Mfn, owner: DomId) -> Option<TypedRef<'_, M>> {
        if self.take_writable(mfn, self.0.entry(mfn)?, owner) {
            return Some(TypedRef { types: self, mfn });
        }
        self.get_simple(mfn, owner, PageType::Writable)
    }

    /// Takes a reference to a frame of `owner` as a page of segment descriptors.
    pub fn get_segdesc(&self, mfn: Mfn, owner: DomId) -> Option<TypedRef<'_, M>> {
        self.get_simple(mfn, owner, PageType::SegDesc)
    }

    /// Like [`Self::get_segdesc`], but only if the frame has that type already. Returns also its state.
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

    /// Drops both references of a [`TypedRef`] that was kept.
    pub fn put_simple(&self, mfn: Mfn) {
        if let Some(frame) = self.0.frame(mfn) {
            if frame.load().type_bits() == PageType::Writable as u64 {
                return self.put_writable(mfn, frame);
            }
            // Types other than page tables have nothing to take apart.
            let Progress::Done = self.put_type(mfn, frame, &mut Work::new()) else {
                return;
            };
            self.put_frame(mfn, frame);
        }
    }

    /// Takes a reference and a type reference to a frame of `owner`. On failure, neither is held.
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

    /// Drops a reference and a type reference. They are dropped in any case; [`Progress::Again`] means that the
    /// table has lost its last type reference, and is not yet taken apart.
    pub(super) fn put_page_and_type(&self, mfn: Mfn, work: &mut Work) -> Progress {
        let Some(frame) = self.0.frame(mfn) else {
            return Progress::Done;
        };
        let progress = self.put_type(mfn, frame, work);
        self.put_frame(mfn, frame);
        progress
    }

    /// Takes a type reference. The caller holds a reference, and keeps it if this fails.
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
            Some(_) => self.validate(mfn, frame, work),
            None if ty == PageType::SegDesc => self.check_descriptors(mfn, frame),
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
                    // The destruction of the domain may have passed this frame.
                    work.note(mfn);
                }
                Err(Refused::Again)
            }
            Err(why) => {
                // The entries that were validated before the failure must be taken apart again.
                let _ = self.take_apart(mfn, frame, ty, work);
                Err(why)
            }
        }
    }

    /// Claims type `ty` for the frame. Waits only while another CPU validates the frame as `ty`; any other type fails at
    /// once.
    fn claim(&self, frame: &Frame, ty: PageType) -> Result<Claim, Refused> {
        let mut state = frame.load();
        loop {
            let was = PageType::from_bits(state.type_bits());
            let (new, claim) = if state.type_refs() == 0 {
                let base = state.0 & !(State::TYPE_MASK | State::VALIDATED);
                // The count is zero, so a bitwise or adds to it.
                let new = base | (ty as u64) << State::TYPE_SHIFT | State::TYPE_REF;
                // A writable frame has no contents to check. Unless it had a type through which another CPU may
                // still use it, there is no flush to wait for either.
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

    /// Another CPU works on the frame. That is short, except for tables above L1.
    fn wait_for(&self, ty: PageType) -> Result<(), Refused> {
        if ty.level().is_some_and(|level| level > 1) && self.0.preempt() {
            return Err(Refused::Again);
        }
        self.0.wait();
        Ok(())
    }

    /// Drops a type reference. The caller holds a reference, and keeps it.
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

    /// Ends the type of a busy frame: takes the contents apart and then gives up the type, or leaves the frame
    /// partial if it stops halfway. A table that may not be taken apart now ([`Work::may_descend_to`]) is left
    /// partial too; it is recorded in `work`, and complete as far as the caller is concerned.
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
            Some(level) => work.descend(level, |work| self.devalidate(mfn, frame, work)),
            None => Progress::Done,
        };
        match progress {
            Progress::Done => {
                // The stamp is stored before the count is released, so that a CPU which sees the count at zero
                // also sees the stamp.
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

    /// Makes a busy frame partial, with references of its own.
    fn stop_half_way(&self, frame: &Frame) {
        frame
            .state
            .fetch_add(State::PARTIAL + State::REF, Ordering::AcqRel);
    }

    /// Continues to take a partial frame apart. Does nothing if the frame is no longer partial.
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

    /// Checks a page of segment descriptors, and stores each as the core requires it.
    fn check_descriptors(&self, mfn: Mfn, frame: &Frame) -> Result<(), Refused> {
        let words = self.0.words(mfn).ok_or(Refused::Invalid)?;
        let width = Shape::of(frame.load()).width();
        for word in words {
            let old = word.load(Ordering::Relaxed);
            let new = check_descriptor(old, width).ok_or(Refused::Invalid)?;
            if new != old {
                word.store(new, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}
