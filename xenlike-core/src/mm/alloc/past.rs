//! The user whose data a free frame contains. If a domain frees a frame and gets it back, it sees only
//! data that it has left there itself. So the frame need not be zeroed, provided that it had no other
//! user in between.

use crate::kit::atomic::{AtomicU32, Ordering};

use crate::mm::frame::Frame;

/// A user of frames, as a number that is never reused. (The ids of domains are reused.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Past(u32);

static LAST: AtomicU32 = AtomicU32::new(Past::HEAP.0);

impl Past {
    /// A user that is not distinguished from others: it sees no other user's data, and no user sees its data.
    pub const NOBODY: Self = Self(0);
    /// The heap, which never reads memory before it has written it.
    pub const HEAP: Self = Self(1);

    /// Returns a number for a new user, or [`Self::NOBODY`] if all have been used.
    pub fn unique() -> Self {
        let next = |last: u32| last.checked_add(1);
        let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.ok().and_then(next).map_or(Self::NOBODY, Self)
    }

    /// Returns the number; 0 stands for [`Self::NOBODY`].
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Whether data that was left by `other` is this user's own.
    pub(super) fn may_see(self, other: Self) -> bool {
        self == other && self != Self::NOBODY
    }

    /// Stores the user in the entry of a frame that becomes free, in `progress`, which a free frame
    /// doesn't need otherwise.
    pub(super) fn note_in(self, frame: &Frame) {
        frame.progress.store(self.0, Ordering::Relaxed);
    }

    /// Returns the user that is stored in the entry of a free frame.
    pub(super) fn of(frame: &Frame) -> Self {
        Self(frame.progress.load(Ordering::Relaxed))
    }

    /// Returns the user that is stored in the entry of a frame that was free, and resets `progress`.
    pub(super) fn take_from(frame: &Frame) -> Self {
        let noted = Self::of(frame);
        frame.progress.store(0, Ordering::Relaxed);
        noted
    }
}
