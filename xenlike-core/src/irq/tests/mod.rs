//! Tests of the rules, against interrupt hardware that records how it was programmed.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

mod fake;
mod messages;
mod random;
mod rules;

use super::Book;
use super::line::Holder;
use crate::kit::{DomId, Port};
use fake::Fake;

const DOM0: DomId = DomId(0);
const DOM5: DomId = DomId(5);

fn book() -> Book<Fake> {
    Book::new(Fake::new(), &[])
}

fn holder(dom: DomId, pirq: u32) -> Holder {
    Holder {
        dom,
        pirq,
        port: Port(pirq + 100),
        shares: true,
        owes_end: false,
    }
}
