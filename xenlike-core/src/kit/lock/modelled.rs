//! Loom doesn't see the tickets of a lock. So in models each lock has a loom atomic beside them, which every holder
//! changes when its turn starts and when it ends. That orders each turn after the previous one, and is a point at which
//! loom can switch threads.

use super::Rank;
use crate::kit::atomic::{AtomicU32, Ordering};

/// What a lock has in addition to its tickets and value.
pub(super) struct Order(AtomicU32);

/// What a guard has in addition; dropped when the holder unlocks.
pub(super) struct Turn<'a>(&'a AtomicU32);

impl Order {
    pub const fn new(_rank: Rank) -> Self {
        Self(AtomicU32::new(0))
    }

    #[expect(clippy::unused_self, reason = "ranks are for debug builds")]
    pub fn check(&self) {}

    pub fn enter(&self) -> Turn<'_> {
        self.0.fetch_add(1, Ordering::AcqRel);
        Turn(&self.0)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}
