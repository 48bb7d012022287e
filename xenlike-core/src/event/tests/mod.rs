//! Tests of the event rules, against pages that the tests can inspect.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

pub(super) mod fake;
pub(super) mod fifo_guest;
mod random;
mod rules;
mod threads;
