//! A guest may take so many references to one of its own frames that no other domain can get one. The frame
//! must be freed with its domain nevertheless.

use crate::kit::atomic::Ordering;

use super::fake::Fake;
use crate::kit::{DomId, Mfn};
use crate::mm::frame::State;
use crate::pagetype::{Memory, Progress, Pte, Refused, Types, Work};

const ME: DomId = DomId(1);

/// A frame with the maximum number of read-only mappings, whose tables are freed after it.
struct Crowd(Mfn, u64);

impl Crowd {
    fn of(types: &Types<Fake>, mfn: Mfn) -> Self {
        let frame = types.0.frame(mfn).unwrap();
        let count = (1 << 26) - frame.load().refs();
        frame.state.fetch_add(count * State::REF, Ordering::Relaxed);
        assert!(types.get_any_page(mfn).is_none());
        Self(mfn, count)
    }

    fn go(self, types: &Types<Fake>) {
        let frame = types.0.frame(self.0).unwrap();
        frame
            .state
            .fetch_sub((self.1 - 1) * State::REF, Ordering::Relaxed);
        types.put_page(self.0);
    }
}

#[test]
fn a_pinned_table_goes_with_its_domain() {
    let types = Fake::new(3);
    let pages = types.0.add_domain(ME.0, 20);
    let table = types.give(&pages).unwrap();
    let mut work = Work::new();
    types.pin(table, 1, ME, &mut work).unwrap();
    let crowd = Crowd::of(&types, table);
    pages.set_dying();
    while types.relinquish(&pages, &mut work) == Progress::Again {}
    crowd.go(&types);
    assert!(pages.is_empty(), "{:?}", types.0.state(table));
}

#[test]
fn a_table_left_half_way_goes_with_its_domain() {
    let types = Fake::new(3);
    let pages = types.0.add_domain(ME.0, 20);
    let [upper, lower @ ..] = [(); 4].map(|()| types.give(&pages).unwrap());
    for (index, table) in lower.into_iter().enumerate() {
        types.set(upper, index, Pte::new(table, 7));
    }
    types.0.preempt_rate.store(256, Ordering::Relaxed);
    let mut work = Work::new();
    assert_eq!(types.pin(upper, 2, ME, &mut work), Err(Refused::Again));
    let crowd = Crowd::of(&types, upper);
    pages.set_dying();
    while types.relinquish(&pages, &mut work) == Progress::Again {}
    crowd.go(&types);
    assert!(pages.is_empty(), "{:?}", types.0.state(upper));
}
