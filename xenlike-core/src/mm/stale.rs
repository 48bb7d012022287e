//! Stale translations: a CPU's TLB may hold a mapping that the tables no longer have. A frame records the time,
//! on `arch`'s flush clock, when it lost its last mapping. Before the frame gets another use, every CPU must
//! have flushed its TLB after that time.

use super::alloc::Past;
use crate::arch::tlb::{self, Stamp};

/// Returns the stamp for a frame that loses its last mapping or reference now.
#[inline]
pub fn now() -> u32 {
    tlb::now().0
}

/// Returns when no CPU holds a translation from the tables of `domain`.
#[inline]
pub fn flush_domain(domain: Past) {
    tlb::flush_domain(domain.number());
}

/// Returns when no CPU holds a translation of a frame of the user that `owner` returns which dates from `stamp`
/// or earlier. Grant mappings are excepted: they are flushed before their references are dropped.
#[inline]
pub fn flush(stamp: u32, owner: impl FnOnce() -> Past) {
    tlb::flush_stale(Stamp(stamp), || owner().number());
}

#[cfg(feature = "audit")]
pub mod audit;
