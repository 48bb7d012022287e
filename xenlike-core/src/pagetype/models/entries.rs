//! Models of two CPUs that change one entry of a table.

use guest_pv_abi::Width;
use loom::thread;

use super::machine::{DATA, ME, MORE, RW, TABLE, machine};
use crate::kit::atomic::model::explore;
use crate::pagetype::{EntryAt, Keep, Lent, Pte, Update, Work};

/// Two CPUs unmap the same grant mapping at the same place, for two handles. One succeeds. The other must fail,
/// or it would end a handle whose own mapping stays.
#[test]
fn one_unmapping_of_a_grant_wins() {
    explore(3, || {
        let types = machine();
        let update = Update {
            table: TABLE,
            index: 0,
            new: Pte::new(DATA, RW),
            keep: Keep::Nothing,
            page_owner: ME,
        };
        types
            .update_l1_entry(Width::Wide, ME, &update, &mut Work::new())
            .unwrap();
        let at = EntryAt {
            table: TABLE,
            index: 0,
        };
        let other = types.clone();
        let second = thread::spawn(move || {
            let mut work = Work::new();
            let new = Pte::new(MORE, RW);
            other.unmap_grant(Width::Wide, ME, at, Lent::ToWrite(DATA), new, &mut work)
        });
        let first = types.unmap_grant(
            Width::Wide,
            ME,
            at,
            Lent::ToWrite(DATA),
            Pte(0),
            &mut Work::new(),
        );
        let second = second.join().unwrap();
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        assert_eq!(types.state(DATA).type_refs(), 0);
        assert_eq!(types.state(MORE).type_refs(), u64::from(second.is_ok()));
    });
}
