//! Tests of entries that are not present, on a machine that is vulnerable to L1 terminal fault.

use super::fake::store;
use super::tree::{ME, Tree, tree};
use crate::pagetype::l1tf::SafeAddresses;
use crate::pagetype::{Pte, Refused};

/// An entry that is not present and names a frame, and one with that frame's address bits inverted.
fn absent() -> (Pte, Pte) {
    (Pte(0x5000 | 1 << 9), Pte(!0x5000 & 0x000f_ffff_ffff_f000))
}

fn open_to_l1tf(t: &Tree) {
    *t.types.0.safe.lock().unwrap() = Some(SafeAddresses {
        from: 1 << 36,
        looked_at: (1 << 46) - 1,
    });
}

#[test]
fn absent_entries_are_free_where_nothing_leaks() {
    let mut t = Tree::pinned();
    for level in 1..5 {
        assert_eq!(t.update(level, 9, absent().0), Ok(()));
    }
    t.types.audit(&[]).unwrap();
}

#[test]
fn absent_entries_that_leak_are_not_written() {
    let mut t = Tree::pinned();
    open_to_l1tf(&t);
    let (leaks, inverted) = absent();
    for level in 1..5 {
        assert_eq!(t.update(level, 9, leaks), Err(Refused::Invalid));
        assert_eq!(t.types.get(t.table[level], 9), Pte(0));
        assert_eq!(t.update(level, 9, inverted), Ok(()));
        assert_eq!(t.update(level, 9, Pte(0)), Ok(()));
    }
    let store = |value| store(&t.types, ME, t.table[1], 8 * 9, 8, value);
    assert_eq!(store(leaks.0), Err(Refused::Invalid));
    assert_eq!(store(inverted.0), Ok(Pte(0)));
    t.types.audit(&[]).unwrap();
}

#[test]
fn a_table_with_an_entry_that_leaks_is_no_table() {
    for level in 1..5 {
        let mut t = tree();
        open_to_l1tf(&t);
        t.types.set(t.table[level], 500, absent().0);
        assert_eq!(
            t.types.pin(t.table[4], 4, ME, &mut t.work),
            Err(Refused::Invalid)
        );
        assert!(t.table.iter().all(|mfn| t.unused(*mfn)));
        t.types.set(t.table[level], 500, absent().1);
        assert_eq!(t.types.pin(t.table[4], 4, ME, &mut t.work), Ok(()));
        t.types.audit(&[]).unwrap();
    }
}
