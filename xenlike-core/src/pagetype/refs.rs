//! References: what keeps a frame its owner's.

use super::{Memory, Types};
use crate::kit::{DomId, Mfn};
use crate::mm::Frame;
use crate::mm::frame::{Kind, State};

/// A reference of a frame, held until this goes.
#[derive(Debug)]
pub struct PageRef<'a, M: Memory> {
    types: &'a Types<M>,
    mfn: Mfn,
    frame: &'a Frame,
}

impl<'a, M: Memory> PageRef<'a, M> {
    /// The frame's number.
    pub const fn mfn(&self) -> Mfn {
        self.mfn
    }
    /// The frame.
    pub const fn frame(&self) -> &'a Frame {
        self.frame
    }
    /// Goes on without this value: the reference is now held by something else, an entry or a
    /// record, that gives it back by [`Types::put_page`].
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

/// Whether a frame is in use and may have one reference more.
fn usable(state: State) -> bool {
    state.refs() != 0 && state.can_ref()
}

impl<M: Memory> Types<M> {
    /// A reference of `mfn` if it is a frame of `owner`.
    #[inline]
    pub fn get_page(&self, mfn: Mfn, owner: DomId) -> Option<PageRef<'_, M>> {
        self.get_page_of(mfn, self.0.frame(mfn)?, owner)
    }

    /// As [`Self::get_page`], for who has the frame's entry, `frame`, at hand.
    #[inline(always)] // on the path of every entry
    pub(super) fn get_page_of<'a>(
        &'a self,
        mfn: Mfn,
        frame: &'a Frame,
        owner: DomId,
    ) -> Option<PageRef<'a, M>> {
        // In this order what is held is the owner's, as in [`super::both`]: another domain that names
        // the frame in vain must not make it look in use.
        let state = frame.load();
        if frame.owner() != owner {
            return None;
        }
        let page = self.get_page_if(mfn, frame, state, usable)?;
        (frame.owner() == owner).then_some(page)
    }

    /// A reference of `mfn`, whoever's it is, if it is anybody's.
    pub fn get_any_page(&self, mfn: Mfn) -> Option<PageRef<'_, M>> {
        let frame = self.0.frame(mfn)?;
        self.get_page_if(mfn, frame, frame.load(), usable)
    }

    /// As [`Self::get_any_page`], even if the frame has all the references that anybody may ask for: what
    /// ends a frame's use must not pass it by because a guest has made so many. A CPU holds a few of
    /// these at most.
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

    /// Whether a frame has references beside the caller's one.
    pub fn has_more_references(&self, mfn: Mfn) -> bool {
        let frame = self.0.frame(mfn);
        frame.is_some_and(|frame| frame.load().refs() > 1)
    }

    /// Gives a reference back that was kept ([`PageRef::keep`]).
    pub fn put_page(&self, mfn: Mfn) {
        if let Some(frame) = self.0.frame(mfn) {
            self.put_frame(mfn, frame);
        }
    }

    /// Drops one reference; with the last one the frame goes back to the allocator.
    #[inline(always)] // on the path of every entry
    pub(super) fn put_frame(&self, mfn: Mfn, frame: &Frame) {
        let mut state = frame.load();
        loop {
            // Mappings of devices hold nothing.
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

    /// Clears a flag that holds one reference; tells whether it was set.
    pub(super) fn clear_flag(&self, frame: &Frame, flag: u64) -> bool {
        let old = frame
            .state
            .fetch_and(!flag, crate::kit::atomic::Ordering::AcqRel);
        State(old).has(flag)
    }
}
