//! Stale translations: a CPU's TLB may hold a mapping that the tables have lost. A frame carries the
//! time, on `arch`'s flush clock, at which its last mapping went; before the frame becomes something
//! else, every CPU must have flushed after that time.

use crate::arch::tlb::{self, Stamp};

/// The stamp for a frame whose last mapping or reference goes now.
#[inline]
pub fn now() -> u32 {
    tlb::now().0
}

/// Comes back when no CPU holds a translation from before.
#[inline]
pub fn flush_all() {
    tlb::flush_all();
}

/// Comes back when no CPU holds a translation from `stamp` or earlier.
#[inline]
pub fn flush(stamp: u32) {
    tlb::flush_stale(Stamp(stamp));
}

#[cfg(feature = "audit")]
pub mod audit;
