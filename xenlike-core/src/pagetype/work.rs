//! What an operation on page tables leaves to do, and how deep taking tables apart may go.

use arrayvec::ArrayVec;

use super::{Memory, Progress, Types};
use crate::kit::Mfn;

/// Tables that an operation left half taken apart. Each vCPU has one; each call that changes page
/// tables finishes it first ([`Types::finish`]). Losing one loses nothing: the frames are found again
/// when their domain ends.
///
/// It also bounds the stack: while a table of one level is taken apart, those of lower levels that
/// lose their last reference by it are taken apart at once, three deep at most. A table of the same
/// level (a linear entry named it) is only noted here, since such a table may name another one, and
/// so on for as long as a guest likes.
#[derive(Debug)]
pub struct Work {
    /// The topmost table of a tree that is half taken apart: what it names is found through it.
    top: Option<Mfn>,
    /// Tables that are on no such path.
    aside: ArrayVec<Mfn, 4>,
    /// The level of the table that is being taken apart now; above all levels if none is.
    level: u32,
}

/// Above the level of every table.
const NO_LEVEL: u32 = 5;

impl Default for Work {
    fn default() -> Self {
        Self::new()
    }
}

impl Work {
    /// Nothing left to do.
    pub const fn new() -> Self {
        Self {
            top: None,
            aside: ArrayVec::new_const(),
            level: NO_LEVEL,
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.top.is_none() & self.aside.is_empty()
    }

    /// Whether a table of `level` may be taken apart now, inside of another one.
    pub(super) const fn may_descend_to(&self, level: u32) -> bool {
        level < self.level
    }

    /// Whether another table can be noted that may not be taken apart now.
    pub(super) fn has_room(&self) -> bool {
        !self.aside.is_full()
    }

    /// Notes the topmost table that is half taken apart, in the place of those below it.
    pub(super) fn note(&mut self, mfn: Mfn) {
        self.top = Some(mfn);
    }

    /// Notes a table beside that one. Without room it is left to the end of its domain.
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

    /// Takes over what another operation left, beside what this one did.
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
    /// Finishes what an earlier operation left. To be called before each operation that may leave
    /// something.
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
