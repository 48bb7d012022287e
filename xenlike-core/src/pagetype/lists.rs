//! Lists of frames, linked through their entries in the frame table by number; 0 ends one.

use crate::kit::atomic::Ordering;

use super::Memory;
use crate::kit::Mfn;
use crate::mm::Frame;

/// A domain's lists.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub pages: u32,
    /// Those of its frames that have been pinned.
    pub pinned: u32,
    /// Frames that destruction has gone over, and that somebody else still holds.
    pub leaving: u32,
    /// Frames of the hypervisor's own, shared with the domain.
    pub shared: u32,
}

impl Lists {
    pub fn push<M: Memory>(memory: &M, head: &mut u32, mfn: Mfn, frame: &Frame) {
        frame.next.store(*head, Ordering::Relaxed);
        frame.prev.store(0, Ordering::Relaxed);
        if let Some(old) = linked(memory, *head) {
            old.prev.store(mfn.0 as u32, Ordering::Relaxed);
        }
        *head = mfn.0 as u32;
    }

    /// The frame that destruction goes over next.
    pub fn first(&self) -> Option<u32> {
        [self.pinned, self.pages]
            .into_iter()
            .find(|head| *head != 0)
    }

    pub fn unlink<M: Memory>(&mut self, memory: &M, mfn: Mfn, frame: &Frame) {
        let next = frame.next.swap(0, Ordering::Relaxed);
        let prev = frame.prev.swap(0, Ordering::Relaxed);
        if let Some(next) = linked(memory, next) {
            next.prev.store(prev, Ordering::Relaxed);
        }
        if let Some(prev) = linked(memory, prev) {
            prev.next.store(next, Ordering::Relaxed);
        } else if u64::from(self.pages) == mfn.0 {
            self.pages = next;
        } else if u64::from(self.pinned) == mfn.0 {
            self.pinned = next;
        } else if u64::from(self.leaving) == mfn.0 {
            self.leaving = next;
        } else if u64::from(self.shared) == mfn.0 {
            self.shared = next;
        }
    }
}

/// The frame that a link names.
pub(super) fn linked<M: Memory>(memory: &M, mfn: u32) -> Option<&Frame> {
    if mfn == 0 {
        None
    } else {
        memory.entry(Mfn(u64::from(mfn)))
    }
}
