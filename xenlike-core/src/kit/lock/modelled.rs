//! Loom doesn't know the tickets. So each lock has a word of loom's beside them: its change at both
//! ends of a turn orders one turn after the other, and gives loom a chance to switch.

use super::Rank;
use crate::kit::atomic::{AtomicU32, Ordering};

/// A lock's part.
pub(super) struct Order(AtomicU32);

/// The holder's part; ends with the turn.
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
