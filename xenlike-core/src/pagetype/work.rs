//! The work that an operation on page tables leaves, and the limit of how deeply tables are taken apart.

use arrayvec::ArrayVec;

use super::{Memory, Progress, Types};
use crate::kit::Mfn;

/// Tables that an operation has left partial. Each vCPU has one of these; each call that changes page tables
/// first completes it ([`Types::finish`]). Nothing is lost if one is dropped, because the frames are found when
/// their domain is destroyed.
///
/// It also bounds the stack. While a table of one level is taken apart, tables of lower levels that lose their
/// last reference are taken apart at once, at most three deep. A table of the same level, named by a linear
/// entry, is only recorded here. Such a table may name another one, and so on, for as long as a guest likes.
#[derive(Debug)]
pub struct Work {
    /// The topmost table of a tree that is partly taken apart. The tables that it names are found through it.
    top: Option<Mfn>,
    /// Tables that are in no such tree.
    aside: ArrayVec<Mfn, 4>,
    /// The level of the table that is being taken apart now; above all levels if there is none.
    level: u32,
}

/// A number above the level of every table.
const NO_LEVEL: u32 = 5;

impl Default for Work {
    fn default() -> Self {
        Self::new()
    }
}

impl Work {
    /// No work is left.
    pub const fn new() -> Self {
        Self {
            top: None,
            aside: ArrayVec::new_const(),
            level: NO_LEVEL,
        }
    }

    /// Whether no work is left.
    pub fn is_empty(&self) -> bool {
        self.top.is_none() & self.aside.is_empty()
    }

    /// Whether a table of `level` may be taken apart now, within another one.
    pub(super) const fn may_descend_to(&self, level: u32) -> bool {
        level < self.level
    }

    /// Whether there is room for another table that may not be taken apart now.
    pub(super) fn has_room(&self) -> bool {
        !self.aside.is_full()
    }

    /// Records the topmost table that is partial, in place of those below it.
    pub(super) fn note(&mut self, mfn: Mfn) {
        self.top = Some(mfn);
    }

    /// Records another table. If there is no room, the table is left to the destruction of its domain.
    pub(super) fn note_aside(&mut self, mfn: Mfn) {
        let _ = self.aside.try_push(mfn);
    }

    /// Runs `body`, which takes a table of `level` apart.
    pub(super) fn descend<R>(&mut self, level: u32, body: impl FnOnce(&mut Self) -> R) -> R {
        let outer = core::mem::replace(&mut self.level, level);
        let result = body(self);
        self.level = outer;
        result
    }

    /// Adds the work that another operation has left.
    pub(super) fn and(&mut self, other: Self) {
        for mfn in other.top.into_iter().chain(other.aside) {
            if self.top.is_none() {
                self.top = Some(mfn);
            } else {
                self.note_aside(mfn);
            }
        }
    }

    fn take(&mut self) -> Option<Mfn> {
        self.aside.pop().or_else(|| self.top.take())
    }
}

impl<M: Memory> Types<M> {
    /// Completes the work that an earlier operation has left. Call this before each operation that
    /// may leave some.
    #[inline]
    pub fn finish(&self, work: &mut Work) -> Progress {
        if work.is_empty() {
            return Progress::Done;
        }
        self.finish_some(work)
    }

    #[cold]
    fn finish_some(&self, work: &mut Work) -> Progress {
        let mut worked = false;
        while let Some(mfn) = work.take() {
            if worked && self.0.preempt() {
                work.note_aside(mfn);
                return Progress::Again;
            }
            let mut left = Work::new();
            let progress = self.undo_partial(mfn, &mut left);
            work.and(left);
            if progress == Progress::Again {
                return Progress::Again;
            }
            worked = true;
        }
        Progress::Done
    }
}
