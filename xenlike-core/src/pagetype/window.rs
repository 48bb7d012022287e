//! A vCPU's window in the per-domain area: 16 pages for its GDT, then 16 pages for its LDT, as entries of an L1 of the
//! hypervisor. Each frame of the guest that is mapped there has a segment-descriptor type reference.

use crate::kit::atomic::Ordering;

use crate::arch::desc::RESERVED_GDT_BYTES;
use crate::kit::{Mfn, PAGE_SHIFT};
use crate::mm::directmap::SharedPage;
use crate::mm::layout;

/// The number of pages of a window.
pub const WINDOW_PAGES: usize = (layout::WINDOW_BYTES >> PAGE_SHIFT) as usize;
/// The hypervisor's own page in every GDT: the entries from 7168 on (FIRST_RESERVED_GDT_PAGE in arch-x86/xen.h).
pub const GDT_OWN_PAGE: usize = (RESERVED_GDT_BYTES >> PAGE_SHIFT) as usize;
/// The first page of the LDT in a window.
pub const LDT_FIRST_PAGE: usize = (layout::LDT_OFFSET >> PAGE_SHIFT) as usize;
/// The number of pages of an LDT.
pub const LDT_PAGES: usize = WINDOW_PAGES - LDT_FIRST_PAGE;
/// The number of windows whose entries are in one L1.
pub const WINDOWS_PER_L1: u32 = 512 / WINDOW_PAGES as u32;

/// The place of a window's entries.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The L1.
    pub l1: Mfn,
    /// The index of the window's first entry.
    pub first: usize,
}

/// Returns entry `page` of a window; 0 beyond its end.
pub fn get(window: Window, page: usize) -> u64 {
    if page >= WINDOW_PAGES {
        return 0;
    }
    SharedPage::new(window.l1)
        .and_then(|l1| l1.u64(window.first.wrapping_add(page).wrapping_mul(8)))
        .map_or(0, |word| word.load(Ordering::SeqCst))
}

/// Sets entry `page` of a window, and returns the old entry.
pub fn set(window: Window, page: usize, entry: u64) -> u64 {
    if page >= WINDOW_PAGES {
        return entry;
    }
    SharedPage::new(window.l1)
        .and_then(|l1| l1.u64(window.first.wrapping_add(page).wrapping_mul(8)))
        .map_or(entry, |word| word.swap(entry, Ordering::SeqCst))
}
