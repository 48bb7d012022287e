//! The pages of descriptors that a vCPU's window shows as its LDT. They lie with the rules for frames, because whoever
//! changes a mapping of such a page has to take it out of the windows of its domain.

use crate::kit::atomic::{AtomicU16, Ordering};

use super::window::{self, Window};
use super::{Pte, machine};
use crate::arch::paging::{DATA, pte};
use crate::kit::Mfn;

/// The pages of a vCPU's LDT that its window maps, each with a segment-descriptor type reference. Any CPU may remove them:
/// an entry leaves the window by an exchange, and whoever gets the old entry from it drops the reference.
#[derive(Debug)]
pub struct LdtPages {
    window: Window,
    /// Bit n is set if page n may be mapped. Set after the entry is written.
    mapped: AtomicU16,
}

impl LdtPages {
    /// Makes the set for `window`, with no page mapped.
    pub const fn new(window: Window) -> Self {
        Self {
            window,
            mapped: AtomicU16::new(0),
        }
    }

    /// Whether a page may be mapped.
    pub fn has(&self, page: u16) -> bool {
        self.mapped.load(Ordering::Acquire) >> page & 1 != 0
    }

    /// Maps a frame. The caller's type reference goes to the window.
    pub fn put(&self, page: usize, frame: Mfn) {
        self.exchange(page, frame.maddr().0 | DATA);
        self.mapped
            .fetch_or(1_u16.wrapping_shl(page as u32), Ordering::AcqRel);
    }

    /// Replaces the entry of a page; 0 unmaps it. Drops the reference of the old entry.
    pub fn exchange(&self, page: usize, entry: u64) {
        let before = window::set(
            self.window,
            window::LDT_FIRST_PAGE.wrapping_add(page),
            entry,
        );
        if before & pte::P != 0 {
            machine().put_simple(Pte(before).mfn());
        }
    }

    /// Unmaps all pages. If this returns true, the caller flushes the TLB of the CPU that runs the vCPU.
    #[must_use]
    pub fn drop_all(&self) -> bool {
        if self.mapped.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mapped = self.mapped.swap(0, Ordering::AcqRel);
        for page in (0..window::LDT_PAGES).filter(|&page| mapped >> page & 1 != 0) {
            self.exchange(page, 0);
        }
        mapped != 0
    }
}
