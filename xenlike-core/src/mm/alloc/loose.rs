//! Loose frames: a few frames that were freed one by one. They are not joined with their buddies, and are the
//! first to be given out again. So alternating allocations and frees of single frames don't split and join a
//! block each time, whatever the state of the lists.

use crate::kit::atomic::Ordering;

use super::{linked, zone_of};
use crate::kit::Mfn;
use crate::mm::frame::Frame;

/// The maximum number of loose frames.
const MAX_FRAMES: u32 = 64;

/// A list of free frames that are not blocks, linked by [`Frame::next`] only.
pub(super) struct Loose {
    head: u32,
    count: u32,
}

impl Loose {
    pub const fn new() -> Self {
        Self { head: 0, count: 0 }
    }

    /// Returns the head of the list. For the audit.
    #[cfg(feature = "audit")]
    pub const fn head(&self) -> u32 {
        self.head
    }

    /// Adds a free frame, if there is room.
    pub fn keep(&mut self, mfn: Mfn, frame: &Frame) -> bool {
        if self.count >= MAX_FRAMES {
            return false;
        }
        frame.next.store(self.head, Ordering::Relaxed);
        (self.head, self.count) = (mfn.0 as u32, self.count + 1);
        true
    }

    /// Removes the frame that was added last, if its zone is not above `top_zone`.
    pub fn take(&mut self, top_zone: usize) -> Option<(Mfn, &'static Frame)> {
        let mfn = Mfn(u64::from(self.head));
        let frame = linked(self.head).filter(|_| zone_of(mfn) <= top_zone)?;
        (self.head, self.count) = (frame.next.load(Ordering::Relaxed), self.count - 1);
        Some((mfn, frame))
    }
}
