//! Switching address spaces, with the book-keeping of TLB flushes.
#![expect(unsafe_code, reason = "loads CR3")]

use super::{cr, tlb};
use crate::kit::{Maddr, Mfn};

/// Switches this CPU to the page tables under the L4 at `l4`. Counts as a full flush of its TLB.
///
/// # Safety
/// `l4` is a validated L4, or the master L4, so that the core stays mapped. It stays valid for as long as it is loaded.
#[inline]
pub unsafe fn load(l4: Maddr) {
    let tick = tlb::flush_begins();
    // SAFETY: by the caller's promise.
    unsafe { cr::write_cr3(l4.0) };
    tlb::flush_done(tick);
}

/// The frame of the L4 that this CPU has loaded.
#[inline]
pub fn current() -> Mfn {
    Maddr(cr::read_cr3()).mfn()
}
