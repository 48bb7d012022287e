//! The pages of descriptors that a vCPU's window shows as its LDT. They lie with the rules for frames, because whoever
//! changes a mapping of such a page has to take it out of the windows of its domain.

use crate::kit::atomic::{AtomicU16, AtomicU32, Ordering};

use super::window::{self, Window};
use super::{Pte, machine};
use crate::arch::paging::{DATA, pte};
use crate::kit::{CpuId, Mfn};

/// The pages of a vCPU's LDT that its window maps, each with a segment-descriptor type reference. Any CPU may remove them:
/// an entry leaves the window by an exchange, and whoever gets the old entry from it drops the reference.
#[derive(Debug)]
pub struct LdtPages {
    window: Window,
    /// Bit n is set if page n may be mapped. Set after the entry is written.
    mapped: AtomicU16,
    /// The number plus 1 of the CPU that may use the window; 0 if none does. It counts while pages may be mapped: a vCPU
    /// without an LDT isn't noted.
    cpu: AtomicU32,
}

impl LdtPages {
    /// Makes the set for `window`, with no page mapped.
    pub const fn new(window: Window) -> Self {
        Self {
            window,
            mapped: AtomicU16::new(0),
            cpu: AtomicU32::new(0),
        }
    }

    /// Whether a page is mapped at this moment.
    pub fn has(&self, page: u16) -> bool {
        let page = window::LDT_FIRST_PAGE.wrapping_add(page.into());
        window::get(self.window, page) & pte::P != 0
    }

    /// Notes that `cpu` is about to load the vCPU's address space. From then on the CPU may have translations of the
    /// window. The load comes after this, so whoever changes the window before it is seen by the load, and whoever
    /// changes it later finds the CPU here.
    pub fn begins_on(&self, cpu: CpuId) {
        self.cpu.store(cpu.0.wrapping_add(1), Ordering::SeqCst);
    }

    /// Notes that no CPU uses the window: that CPU's LDT register is null, and it loads another address space next.
    pub fn ends(&self) {
        self.cpu.store(0, Ordering::SeqCst);
    }

    /// The CPU that may use the window.
    pub fn cpu(&self) -> Option<CpuId> {
        self.cpu.load(Ordering::SeqCst).checked_sub(1).map(CpuId)
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
