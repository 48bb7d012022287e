//! Lists of frames, linked by frame number through the frame table. 0 ends a list.

use crate::kit::atomic::Ordering;

use super::Memory;
use crate::kit::Mfn;
use crate::mm::Frame;

/// The lists of one domain.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub pages: u32,
    /// The domain's frames that have been pinned.
    pub pinned: u32,
    /// Frames that destruction has handled, but that still have references.
    pub leaving: u32,
    /// The hypervisor's own frames that are shared with the domain.
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

    /// Returns the frame that destruction handles next.
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

/// Returns the frame of a link.
pub(super) fn linked<M: Memory>(memory: &M, mfn: u32) -> Option<&Frame> {
    if mfn == 0 {
        None
    } else {
        memory.entry(Mfn(u64::from(mfn)))
    }
}
