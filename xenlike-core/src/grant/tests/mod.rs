//! Tests of the grant rules on a simulated machine.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

mod fake;
mod random;
mod rules;
mod threads;
mod version2;
