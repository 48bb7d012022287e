//! Switching address spaces, with the book-keeping of TLB flushes.
#![expect(unsafe_code, reason = "loads CR3")]

use super::{cr, tlb};
use crate::kit::{Maddr, Mfn};

/// Tables that a CPU may run on: what goes into CR3. It need not be the table that a guest names as its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRoot(Maddr);

impl RunRoot {
    /// The tables under the L4 at `l4`.
    ///
    /// # Safety
    /// They map the hypervisor, and do so for as long as a CPU has them loaded.
    #[inline]
    pub const unsafe fn new(l4: Maddr) -> Self {
        Self(l4)
    }
}

/// Switches this CPU to the tables under `root`. Counts as a full flush of its TLB.
#[inline]
pub fn load(root: RunRoot) {
    let tick = tlb::flush_begins();
    // SAFETY: a `RunRoot` maps the hypervisor.
    unsafe { cr::write_cr3(root.0.0) };
    tlb::flush_done(tick);
}

/// The frame of the L4 that this CPU has loaded.
#[inline]
pub fn current() -> Mfn {
    Maddr(cr::read_cr3()).mfn()
}
