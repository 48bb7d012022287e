//! Whose contents a free frame has. A domain that gives a frame back and gets it again sees only what it
//! left in it itself: nobody has to zero that frame, as long as nobody else had it in between.

use crate::kit::atomic::{AtomicU32, Ordering};

use crate::mm::frame::Frame;

/// A user of frames by a number that no other has, before it or after: a domain's id is used again, this
/// never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Past(u32);

static LAST: AtomicU32 = AtomicU32::new(Past::HEAP.0);

impl Past {
    /// Who is not told apart: it sees nobody's contents, and nobody sees its.
    pub const NOBODY: Self = Self(0);
    /// The heap, which writes what it gets before it reads it.
    pub const HEAP: Self = Self(1);

    /// A number for a new user; [`Self::NOBODY`] when all have been given out.
    pub fn unique() -> Self {
        let next = |last: u32| last.checked_add(1);
        let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.ok().and_then(next).map_or(Self::NOBODY, Self)
    }

    /// The number; 0 is [`Self::NOBODY`].
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Whether the contents left by `other` are its own.
    pub(super) fn may_see(self, other: Self) -> bool {
        self == other && self != Self::NOBODY
    }

    /// Notes it in the entry of a frame that becomes free. A free frame's progress means nothing else.
    pub(super) fn note_in(self, frame: &Frame) {
        frame.progress.store(self.0, Ordering::Relaxed);
    }

    /// Who is noted in the entry of a free frame.
    pub(super) fn of(frame: &Frame) -> Self {
        Self(frame.progress.load(Ordering::Relaxed))
    }

    /// Who is noted in the entry of a frame that was free, which then begins as every frame does.
    pub(super) fn take_from(frame: &Frame) -> Self {
        let noted = Self::of(frame);
        frame.progress.store(0, Ordering::Relaxed);
        noted
    }
}
