//! How frames leave their domain and go back to the allocator.

use crate::kit::atomic::Ordering;

use super::lists::Lists;
use super::{DomainPages, Memory, PageRef, Progress, Refused, Types, Work};
use crate::kit::Mfn;
use crate::mm::Frame;
use crate::mm::alloc::Past;
use crate::mm::frame::State;

/// Frames that have left their domain. They go back to the allocator when this value is dropped, neighbours as
/// one run, so that the allocator merges one block instead of one for each frame.
#[derive(Debug)]
pub struct Leaving<'a, M: Memory> {
    types: &'a Types<M>,
    /// The domain whose data the frames contain.
    past: Past,
    first: Mfn,
    count: u64,
}

impl<M: Memory> Leaving<'_, M> {
    /// The maximum number of frames in a run.
    const MAX_FRAMES: u64 = 512;

    /// Adds a frame to the run, or begins another run.
    #[inline]
    fn push(&mut self, mfn: Mfn) {
        let fits = self.count < Self::MAX_FRAMES;
        if fits && mfn == self.first.add(self.count) {
            self.count = self.count.wrapping_add(1);
        } else if fits && mfn.add(1) == self.first {
            (self.first, self.count) = (mfn, self.count.wrapping_add(1));
        } else {
            self.give_back();
            (self.first, self.count) = (mfn, 1);
        }
    }

    #[inline]
    fn give_back(&mut self) {
        if self.count > 0 {
            self.free();
        }
    }

    #[inline(never)] // cold: mostly there is nothing to free
    fn free(&mut self) {
        self.types.0.free(self.first, self.count, self.past);
        self.count = 0;
    }
}

impl<M: Memory> Drop for Leaving<'_, M> {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The next frame that destruction has to handle.
pub(super) enum Next<'a, M: Memory> {
    /// A frame without other references, which has left the domain.
    Gone,
    /// A frame with other references, and a reference for the caller.
    Held(PageRef<'a, M>),
}

impl<M: Memory> Types<M> {
    /// Collects frames that are about to leave `pages`.
    pub fn leaving(&self, pages: &DomainPages) -> Leaving<'_, M> {
        Leaving {
            types: self,
            past: pages.past(),
            first: Mfn(0),
            count: 0,
        }
    }

    /// Drops the reference that the page list of `pages` holds to a frame, which leaves the domain when its
    /// last reference is dropped. Fails as invalid if the list's reference was dropped before.
    pub fn disown(
        &self,
        pages: &DomainPages,
        mfn: Mfn,
        leaving: &mut Leaving<'_, M>,
    ) -> Result<(), Refused> {
        let frame = self.0.entry(mfn).ok_or(Refused::Invalid)?;
        // This order makes sure that the frame stays the domain's until the count has changed,
        // as in [`super::both`].
        let mut state = frame.load();
        if frame.owner() != pages.id() {
            return Err(Refused::Invalid);
        }
        let left = loop {
            // As long as the flag is set, the list's reference exists.
            if !state.has(State::ALLOCATED) {
                return Err(Refused::Invalid);
            }
            let left = state.minus(State::ALLOCATED + State::REF);
            match frame.change(state, left) {
                Ok(()) => break State(left),
                Err(now) => state = now,
            }
        };
        if left.refs() == 0 {
            self.unlist(pages, mfn, frame);
            leaving.push(mfn);
            self.tell_if_empty(pages);
        }
        Ok(())
    }

    /// The last reference is gone: removes the frame from its domain, and frees it.
    pub(super) fn release(&self, mfn: Mfn, frame: &Frame) {
        let Some(pages) = self.0.domain(frame.owner()) else {
            return self.0.free(mfn, 1, Past::NOBODY);
        };
        self.unlist(&pages, mfn, frame);
        self.0.free(mfn, 1, Past::NOBODY);
        self.tell_if_empty(&pages);
    }

    /// Removes a frame without references from its domain's lists and charge.
    fn unlist(&self, pages: &DomainPages, mfn: Mfn, frame: &Frame) {
        let mut lists = pages.lists.lock();
        lists.unlink(&self.0, mfn, frame);
        if frame.load().has(State::SHARED) {
            pages.shared.fetch_sub(1, Ordering::Relaxed);
        } else {
            pages.total.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn tell_if_empty(&self, pages: &DomainPages) {
        if pages.is_dying() && pages.is_empty() {
            self.0.emptied(pages.id());
        }
    }

    /// Removes the first frame from the domain's lists, for destruction. Pinned tables come first, because most
    /// other frames have no references left once these are taken apart.
    pub(super) fn next_to_leave<'a>(
        &'a self,
        pages: &DomainPages,
        leaving: &mut Leaving<'_, M>,
    ) -> Option<Next<'a, M>> {
        loop {
            let mut lists = pages.lists.lock();
            let mfn = Mfn(u64::from(lists.first()?));
            let frame = self.0.frame(mfn)?;
            lists.unlink(&self.0, mfn, frame);
            let state = frame.load();
            if state.is_alone() && frame.change(state, State::USED).is_ok() {
                pages.total.fetch_sub(1, Ordering::Relaxed);
                drop(lists);
                leaving.push(mfn);
                return Some(Next::Gone);
            }
            Lists::push(&self.0, &mut lists.leaving, mfn, frame);
            // A frame without references is being released by another CPU, which also removes it from the list.
            if let Some(page) = self.get_page_to_end(mfn) {
                return Some(Next::Held(page));
            }
        }
    }

    /// Puts a frame back on a list, so that destruction handles it again.
    pub(super) fn stay(&self, pages: &DomainPages, page: &PageRef<'_, M>) {
        self.list_as_pinned(&mut pages.lists.lock(), page.mfn(), page.frame());
    }

    /// Moves a frame that is about to be pinned to the list of pinned tables, so that destruction takes it
    /// apart first. The caller's reference guarantees that the frame is on one of the lists.
    pub(super) fn note_pinned(&self, pages: &DomainPages, mfn: Mfn, frame: &Frame) {
        let mut lists = pages.lists.lock();
        if !pages.is_dying() && !frame.load().has(State::SHARED) {
            self.list_as_pinned(&mut lists, mfn, frame);
        }
    }

    fn list_as_pinned(&self, lists: &mut Lists, mfn: Mfn, frame: &Frame) {
        lists.unlink(&self.0, mfn, frame);
        Lists::push(&self.0, &mut lists.pinned, mfn, frame);
    }

    /// Drops the references of pins and of partial tables that a frame of a dying domain still has, and that of
    /// the page list.
    pub(super) fn let_go(&self, mfn: Mfn, frame: &Frame, work: &mut Work) -> Progress {
        if self.clear_flag(frame, State::PINNED)
            && self.put_page_and_type(mfn, work) == Progress::Again
        {
            return Progress::Again;
        }
        if self.undo_partial(mfn, work) == Progress::Again {
            return Progress::Again;
        }
        if self.clear_flag(frame, State::ALLOCATED) {
            self.put_page(mfn);
        }
        Progress::Done
    }
}
