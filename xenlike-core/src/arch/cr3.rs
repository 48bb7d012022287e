//! Switching address spaces.
#![expect(unsafe_code, reason = "loads CR3")]

use super::{cr, tlb};
use crate::kit::{Maddr, Mfn};

/// Switches this CPU to the tables under the L4 at `l4`. Counts as a full flush of its TLB.
///
/// # Safety
/// `l4` is a validated L4 (or the master), so that the core stays mapped, and stays one while loaded.
#[inline]
pub unsafe fn load(l4: Maddr) {
    let tick = tlb::flush_begins();
    // SAFETY: the caller's promise.
    unsafe { cr::write_cr3(l4.0) };
    tlb::flush_done(tick);
}

/// The tables this CPU is on.
#[inline]
pub fn current() -> Mfn {
    Maddr(cr::read_cr3()).mfn()
}
