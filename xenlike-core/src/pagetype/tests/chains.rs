//! Chains of tables that stopped halfway, each of which names the next: tests how much stack it takes to
//! take them apart.

use std::sync::Arc;
use std::vec::Vec;

use super::fake::Fake;
use super::tree::{ME, RO, RW};
use crate::kit::Mfn;
use crate::kit::atomic::Ordering;
use crate::mm::frame::State;
use crate::pagetype::{DomainPages, Progress, Pte, Refused, Types, Work};

struct Chain {
    types: Types<Fake>,
    pages: Arc<DomainPages>,
    links: Vec<Mfn>,
}

impl Chain {
    /// Makes `length` tables of `level`, all of them partial with one entry validated. The entry after it names
    /// the next table.
    fn of(level: u32, length: usize) -> Self {
        let types = Fake::new(5);
        let pages = types.0.add_domain(ME.0, 100);
        let give = || types.give(&pages).unwrap();
        let links: Vec<Mfn> = (0..length).map(|_| give()).collect();
        let lower = give();
        types.0.preempt_rate.store(256, Ordering::Relaxed);
        for (at, link) in links.iter().enumerate() {
            types.set(*link, 0, Pte::new(lower, RW));
            if let Some(next) = links.get(at + 1) {
                types.set(*link, 1, Pte::new(*next, RO));
            } else {
                types.set(*link, 1, Pte::new(lower, RW));
            }
            // The pin stops halfway, and is never continued.
            let mut work = Work::new();
            assert_eq!(types.pin(*link, level, ME, &mut work), Err(Refused::Again));
            assert!(types.0.state(*link).has(State::PARTIAL));
        }
        types.0.preempt_rate.store(0, Ordering::Relaxed);
        Self {
            types,
            pages,
            links,
        }
    }

    /// Makes an entry of the first table invalid and pins the table, so that it is taken apart.
    fn pin_first(&self) {
        self.types
            .set(self.links[0], 511, Pte::new(Mfn(0xdead), RW));
        let mut work = Work::new();
        let level = self.types.0.state(self.links[0]).type_bits() as u32;
        let pinned = self.types.pin(self.links[0], level, ME, &mut work);
        assert_eq!(pinned, Err(Refused::Invalid));
        while self.types.finish(&mut work) == Progress::Again {}
        self.types.audit(&[]).unwrap();
    }

    fn destroy(&self) {
        self.pages.set_dying();
        let mut work = Work::new();
        while self.types.relinquish(&self.pages, &mut work) == Progress::Again {}
        assert!(self.pages.is_empty(), "{} left", self.pages.total());
    }
}

/// Returns how much stack `act` uses on a chain.
fn depth(level: u32, length: usize, act: fn(&Chain)) -> usize {
    let chain = Chain::of(level, length);
    chain.types.0.deepest.store(usize::MAX, Ordering::Relaxed);
    let here = 0u8;
    act(&chain);
    (&raw const here).addr() - chain.types.0.deepest.load(Ordering::Relaxed)
}

#[test]
fn no_chain_is_followed_down_the_stack() {
    for level in 2..=4 {
        for act in [Chain::pin_first, Chain::destroy] {
            let (short, long) = (depth(level, 2, act), depth(level, 20, act));
            assert!(
                long <= short + 256,
                "level {level}: {short} bytes for 2 links, {long} for 20"
            );
        }
    }
}
