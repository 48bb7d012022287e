//! In a release build a lock has nothing beside its tickets and its value.

use core::marker::PhantomData;

use super::Rank;

/// A lock's part: none.
pub(super) struct Order;

/// The holder's part: none.
pub(super) struct Turn<'a>(PhantomData<&'a Order>);

impl Order {
    pub const fn new(_rank: Rank) -> Self {
        Self
    }

    #[inline(always)]
    pub fn check(&self) {}

    #[inline(always)]
    pub fn enter(&self) -> Turn<'_> {
        Turn(PhantomData)
    }
}
