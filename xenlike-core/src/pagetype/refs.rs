//! References, which make a frame stay its owner's.

use super::{Memory, Types};
use crate::kit::{DomId, Mfn};
use crate::mm::Frame;
use crate::mm::frame::{Kind, State};

/// A reference to a frame, held until this value is dropped.
#[derive(Debug)]
pub struct PageRef<'a, M: Memory> {
    types: &'a Types<M>,
    mfn: Mfn,
    frame: &'a Frame,
}

impl<'a, M: Memory> PageRef<'a, M> {
    /// Returns the frame's number.
    pub const fn mfn(&self) -> Mfn {
        self.mfn
    }
    /// Returns the frame's entry in the frame table.
    pub const fn frame(&self) -> &'a Frame {
        self.frame
    }
    /// Drops this value, but keeps the reference: something else, such as a page-table entry, holds it now and
    /// drops it by [`Types::put_page`].
    pub fn keep(self) -> Mfn {
        let mfn = self.mfn;
        core::mem::forget(self);
        mfn
    }
}

impl<M: Memory> Drop for PageRef<'_, M> {
    fn drop(&mut self) {
        self.types.put_frame(self.mfn, self.frame);
    }
}

/// Whether a frame is in use and may have another reference.
fn usable(state: State) -> bool {
    state.refs() != 0 && state.can_ref()
}

impl<M: Memory> Types<M> {
    /// Takes a reference to `mfn`, if it is a frame of `owner`.
    #[inline]
    pub fn get_page(&self, mfn: Mfn, owner: DomId) -> Option<PageRef<'_, M>> {
        self.get_page_of(mfn, self.0.frame(mfn)?, owner)
    }

    /// Like [`Self::get_page`], for callers that have the frame's entry already.
    #[inline(always)] // on the path of every entry
    pub(super) fn get_page_of<'a>(
        &'a self,
        mfn: Mfn,
        frame: &'a Frame,
        owner: DomId,
    ) -> Option<PageRef<'a, M>> {
        // This order makes sure that only a frame of `owner` is referenced, as in [`super::both`]. A reference
        // that another domain takes, even for a moment, would make the frame look in use.
        let state = frame.load();
        if frame.owner() != owner {
            return None;
        }
        let page = self.get_page_if(mfn, frame, state, usable)?;
        (frame.owner() == owner).then_some(page)
    }

    /// Takes a reference to `mfn`, whichever domain owns it. `None` if it has no owner.
    pub fn get_any_page(&self, mfn: Mfn) -> Option<PageRef<'_, M>> {
        let frame = self.0.frame(mfn)?;
        self.get_page_if(mfn, frame, frame.load(), usable)
    }

    /// Like [`Self::get_any_page`], but even if the frame has the maximum number of references. What ends a
    /// frame's use must not skip it because a guest has made so many. A CPU holds at most a few of these.
    pub(super) fn get_page_to_end(&self, mfn: Mfn) -> Option<PageRef<'_, M>> {
        let frame = self.0.frame(mfn)?;
        self.get_page_if(mfn, frame, frame.load(), |state| state.refs() != 0)
    }

    #[inline(always)] // on the path of every entry
    fn get_page_if<'a>(
        &'a self,
        mfn: Mfn,
        frame: &'a Frame,
        mut state: State,
        allows: impl Fn(State) -> bool,
    ) -> Option<PageRef<'a, M>> {
        loop {
            if !allows(state) {
                return None;
            }
            match frame.change(state, state.plus(State::REF)) {
                Ok(()) => {
                    return Some(PageRef {
                        types: self,
                        mfn,
                        frame,
                    });
                }
                Err(now) => state = now,
            }
        }
    }

    /// Whether a frame has references besides the caller's.
    pub fn has_more_references(&self, mfn: Mfn) -> bool {
        let frame = self.0.frame(mfn);
        frame.is_some_and(|frame| frame.load().refs() > 1)
    }

    /// Drops a reference that was kept ([`PageRef::keep`]).
    pub fn put_page(&self, mfn: Mfn) {
        if let Some(frame) = self.0.frame(mfn) {
            self.put_frame(mfn, frame);
        }
    }

    /// Drops a reference. With the last one, the frame goes back to the allocator.
    #[inline(always)] // on the path of every entry
    pub(super) fn put_frame(&self, mfn: Mfn, frame: &Frame) {
        let mut state = frame.load();
        loop {
            // Mappings of device memory hold no references.
            let counted = state.refs() > 0 || state.kind() == Kind::NotRam;
            debug_assert!(counted, "{mfn:?} {state:?}: a reference too few");
            let Some(less) = state.refs().checked_sub(1) else {
                return;
            };
            match frame.change(state, state.minus(State::REF)) {
                Ok(()) if less == 0 => return self.release(mfn, frame),
                Ok(()) => return,
                Err(now) => state = now,
            }
        }
    }

    /// Clears a flag that stands for a reference. Returns whether it was set.
    pub(super) fn clear_flag(&self, frame: &Frame, flag: u64) -> bool {
        let old = frame
            .state
            .fetch_and(!flag, crate::kit::atomic::Ordering::AcqRel);
        State(old).has(flag)
    }
}
