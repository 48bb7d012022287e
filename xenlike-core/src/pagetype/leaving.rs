//! How frames leave their domain, and go back to the allocator.

use crate::kit::atomic::Ordering;

use super::lists::Lists;
use super::{DomainPages, Memory, PageRef, Progress, Refused, Types, Work};
use crate::kit::Mfn;
use crate::mm::Frame;
use crate::mm::alloc::Past;
use crate::mm::frame::State;

/// Frames that have left their domain, and go back to the allocator when this ends. Neighbours go
/// together: the allocator then has one block to join with others, not one for each frame.
#[derive(Debug)]
pub struct Leaving<'a, M: Memory> {
    types: &'a Types<M>,
    /// Whose contents they have.
    past: Past,
    first: Mfn,
    count: u64,
}

impl<M: Memory> Leaving<'_, M> {
    /// So many go together at most.
    const MOST: u64 = 512;

    /// One more.
    #[inline]
    fn push(&mut self, mfn: Mfn) {
        let fits = self.count < Self::MOST;
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

    #[inline(never)] // there mostly is nothing
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

/// What destruction meets next.
pub(super) enum Next<'a, M: Memory> {
    /// A frame that nobody else had: it has left.
    Gone,
    /// One that somebody has, with a reference for the caller.
    Held(PageRef<'a, M>),
}

impl<M: Memory> Types<M> {
    /// For frames that are about to leave `pages`.
    pub fn leaving(&self, pages: &DomainPages) -> Leaving<'_, M> {
        Leaving {
            types: self,
            past: pages.past(),
            first: Mfn(0),
            count: 0,
        }
    }

    /// Gives up the reference that the page list of `pages` holds of a frame: it goes when the last
    /// other user does. Invalid if it had been given up before.
    pub fn disown(
        &self,
        pages: &DomainPages,
        mfn: Mfn,
        leaving: &mut Leaving<'_, M>,
    ) -> Result<(), Refused> {
        let frame = self.0.entry(mfn).ok_or(Refused::Invalid)?;
        // In this order it stays so until this has counted, as in [`super::both`].
        let mut state = frame.load();
        if frame.owner() != pages.id() {
            return Err(Refused::Invalid);
        }
        let left = loop {
            // With the flag, the list's reference is there.
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

    /// The last reference has gone: the frame leaves its domain and is free.
    pub(super) fn release(&self, mfn: Mfn, frame: &Frame) {
        let Some(pages) = self.0.domain(frame.owner()) else {
            return self.0.free(mfn, 1, Past::NOBODY);
        };
        self.unlist(&pages, mfn, frame);
        self.0.free(mfn, 1, Past::NOBODY);
        self.tell_if_empty(&pages);
    }

    /// Takes a frame without references off its domain's lists and charge.
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

    /// Takes the first frame off the page list, or off that of pinned tables, which come first: when
    /// they are taken apart, nobody has most of the others any more. For destruction.
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
            // Without a reference it is being released just now, and leaves the list by that.
            if let Some(page) = self.get_page_to_end(mfn) {
                return Some(Next::Held(page));
            }
        }
    }

    /// Puts a frame that is leaving back on a list, to be looked at again.
    pub(super) fn stay(&self, pages: &DomainPages, page: &PageRef<'_, M>) {
        self.list_as_pinned(&mut pages.lists.lock(), page.mfn(), page.frame());
    }

    /// Notes that a frame of a domain is to be pinned, so that its destruction takes it apart first.
    /// The caller holds a reference, by which the frame is on one of the lists.
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

    /// Frees the page-table and pin references that a frame of a dying domain still has.
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
