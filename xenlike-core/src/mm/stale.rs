//! Stale translations: a CPU's TLB may hold a mapping that the tables have lost. A frame carries the
//! time, on `arch`'s flush clock, at which its last mapping went; before the frame becomes something
//! else, every CPU must have flushed after that time.

use super::alloc::Past;
use crate::arch::tlb::{self, Stamp};

/// The stamp for a frame whose last mapping or reference goes now.
#[inline]
pub fn now() -> u32 {
    tlb::now().0
}

/// Comes back when no CPU holds a translation of the tables of the domain that is `domain`.
#[inline]
pub fn flush_domain(domain: Past) {
    tlb::flush_domain(domain.number());
}

/// Comes back when no CPU holds a translation from `stamp` or earlier of a frame that `owner` tells
/// the owner of. A mapping by a grant is not meant: it has been flushed before its reference went.
#[inline]
pub fn flush(stamp: u32, owner: impl FnOnce() -> Past) {
    tlb::flush_stale(Stamp(stamp), || owner().number());
}

#[cfg(feature = "audit")]
pub mod audit;
