//! Tests of the rules, one rule each.

use guest_pv_abi::Width;

use crate::kit::atomic::Ordering;

use super::fake::{IO, IO_TABLE, store};
use crate::kit::{DomId, Mfn, Vaddr};
use crate::mm::frame::State;
use crate::pagetype::{
    EntryAt, Keep, Lent, Memory, PageType, Progress, Pte, Refused, Update, Work,
};

use super::tree::{DATA_VA, ME, RO, RW, Tree, tree};

#[test]
fn a_pin_validates_the_whole_tree() {
    let mut t = Tree::pinned();
    for level in 1..5 {
        assert_eq!(
            t.is(t.table[level]),
            (PageType::table(level as u32).unwrap(), 1)
        );
    }
    t.types.audit(&[]).unwrap();
    t.types.unpin(t.table[4], ME, &mut t.work).unwrap();
    assert!(t.table.iter().all(|mfn| t.unused(*mfn)));
}

#[test]
fn a_table_is_never_writable() {
    let mut t = Tree::pinned();
    for level in 1..5 {
        let table = t.table[level];
        assert_eq!(t.update(1, 5, Pte::new(table, RW)), Err(Refused::Busy));
        assert_eq!(t.update(1, 5, Pte::new(table, RO)), Ok(()));
        assert!(t.types.get_writable(table, ME).is_none());
    }
    t.types.audit(&[]).unwrap();
}

#[test]
fn a_writable_page_is_no_table() {
    let mut t = Tree::pinned();
    let page = t.spare[0];
    t.update(1, 5, Pte::new(page, RW)).unwrap();
    assert_eq!(t.types.pin(page, 1, ME, &mut t.work), Err(Refused::Invalid));
    assert_eq!(t.update(2, 7, Pte::new(page, RW)), Err(Refused::Invalid));
    t.update(1, 5, Pte(0)).unwrap();
    let before = t.types.0.flushed.load(Ordering::SeqCst);
    t.types.pin(page, 1, ME, &mut t.work).unwrap();
    let after = t.types.0.flushed.load(Ordering::SeqCst);
    let stamp = t.types.0.frame(page).unwrap().stamp.load(Ordering::Relaxed);
    assert!(
        after > before && after > stamp,
        "stale writable translations were flushed"
    );
}

#[test]
fn the_hypervisors_slots_are_its_own() {
    let mut t = tree();
    t.types.set(t.table[4], 256, Pte(0x1234_5000 | RW));
    t.types.set(t.table[4], 271, Pte::new(t.table[1], RW));
    t.types.pin(t.table[4], 4, ME, &mut t.work).unwrap();
    for slot in 256..272 {
        assert_eq!(
            t.types.get(t.table[4], slot).0,
            t.types.0.own_slot(ME, PageType::L4, slot)
        );
        assert_eq!(t.update(4, slot, Pte(0)), Err(Refused::Invalid));
    }
    assert_eq!(t.update(4, 255, Pte::new(t.table[3], RO)), Ok(()));
    assert_eq!(t.update(4, 272, Pte::new(t.table[3], RO)), Ok(()));
    t.types.audit(&[]).unwrap();
}

#[test]
fn flags_are_as_the_abi_wants_them() {
    let mut t = Tree::pinned();
    let data = t.spare[0];
    t.update(
        1,
        0,
        Pte::new(data, Pte::PRESENT | Pte::GLOBAL | Pte::NX | 1 << 9),
    )
    .unwrap();
    let stored = t.types.get(t.table[1], 0);
    assert_eq!(
        stored,
        Pte::new(data, Pte::PRESENT | Pte::USER | Pte::NX | 1 << 9)
    );
    for bad in [Pte::PCD, Pte::PWT, Pte::PAT_OR_LARGE] {
        assert_eq!(
            t.update(1, 0, Pte::new(data, RO | bad)),
            Err(Refused::Invalid)
        );
        assert_eq!(
            t.update(2, 9, Pte::new(t.table[1], RO | bad)),
            Err(Refused::Invalid)
        );
    }
    let large = Pte::new(data, RW | Pte::PAT_OR_LARGE);
    assert_eq!(t.update(2, 9, large), Err(Refused::Invalid));
    assert_eq!(t.update(3, 9, large), Err(Refused::Invalid));
    assert_eq!(
        t.update(4, 9, Pte::new(t.table[3], RW | Pte::GLOBAL)),
        Err(Refused::Invalid)
    );
}

#[test]
fn linear_entries_are_read_only_and_do_not_chain() {
    let mut t = Tree::pinned();
    let root = t.table[4];
    assert_eq!(t.update(4, 300, Pte::new(root, RW)), Err(Refused::Invalid));
    assert_eq!(t.update(4, 300, Pte::new(root, RO)), Ok(()));
    let (second, third) = (t.spare[0], t.spare[1]);
    for (mfn, names) in [(second, root), (third, second)] {
        t.types.set(mfn, 300, Pte::new(names, RO));
    }
    t.types.pin(second, 4, ME, &mut t.work).unwrap();
    assert_eq!(
        t.types.pin(third, 4, ME, &mut t.work),
        Err(Refused::Invalid)
    );
    assert_eq!(
        t.update(4, 301, Pte::new(second, RO)),
        Err(Refused::Invalid)
    );
    t.types.audit(&[]).unwrap();
    for mfn in [root, second] {
        t.types.unpin(mfn, ME, &mut t.work).unwrap();
    }
    // A table that only a linear entry has kept is taken apart in the next call.
    while t.types.finish(&mut t.work) == Progress::Again {}
    assert!(t.unused(root) && t.unused(second) && t.unused(third));
}

#[test]
fn io_memory_is_for_those_with_the_right() {
    let mut t = Tree::pinned();
    assert_eq!(t.update(1, 0, Pte::new(IO, RW)), Err(Refused::NotPermitted));
    let dom0 = t.types.0.add_domain(0, 20);
    let table = t.types.give(&dom0).unwrap();
    t.types.pin(table, 1, DomId(0), &mut t.work).unwrap();
    let map = |mfn, page_owner| Update {
        table,
        index: 1,
        new: Pte::new(mfn, RW | Pte::PCD),
        keep: Keep::Nothing,
        page_owner,
    };
    for owner in [DomId(0), DomId::IO] {
        assert_eq!(
            t.types.change(DomId(0), &map(IO, owner), &mut t.work),
            Ok(())
        );
    }
    assert!(t.types.get(table, 1).has(Pte::PCD));
    // A frame that the domain may only read is mapped read-only, however often the domain asks for more.
    for _ in 0..2 {
        assert_eq!(
            t.types
                .change(DomId(0), &map(IO_TABLE, DomId::IO), &mut t.work),
            Ok(())
        );
        let entry = t.types.get(table, 1);
        assert!(entry.is_present() && !entry.is_writable() && entry.mfn() == IO_TABLE);
    }
    let bad = map(IO.add(1), DomId::IO);
    let refused = Err(Refused::NotPermitted);
    assert_eq!(t.types.change(DomId(0), &bad, &mut t.work), refused);
    // Memory of another domain can be mapped only by that domain's id, and only write-back.
    let refused = Err(Refused::Busy);
    let foreign = t.spare[0];
    assert_eq!(
        t.types
            .change(DomId(0), &map(foreign, DomId(0)), &mut t.work),
        refused
    );
    assert_eq!(
        t.types
            .change(DomId(0), &map(foreign, DomId::IO), &mut t.work),
        refused
    );
    assert_eq!(
        t.types.change(DomId(0), &map(foreign, ME), &mut t.work),
        Ok(())
    );
    assert_eq!(t.types.get(table, 1), Pte::new(foreign, RW));
}

#[test]
fn a_failed_validation_leaves_nothing() {
    let mut t = tree();
    let stranger = t.types.0.add_domain(2, 4);
    let foreign = t.types.give(&stranger).unwrap();
    t.types.set(t.table[1], 511, Pte::new(foreign, RO));
    t.types.set(t.table[2], 511, Pte::new(t.spare[0], RW));
    assert_eq!(
        t.types.pin(t.table[4], 4, ME, &mut t.work),
        Err(Refused::Busy)
    );
    t.types.audit(&[]).unwrap();
    assert!(t.table.iter().all(|mfn| t.unused(*mfn)) && t.work.is_empty());
}

#[test]
fn pins_do_not_count() {
    let mut t = Tree::pinned();
    assert_eq!(
        t.types.pin(t.table[4], 4, ME, &mut t.work),
        Err(Refused::Invalid)
    );
    assert_eq!(
        t.types.pin(t.table[3], 4, ME, &mut t.work),
        Err(Refused::Invalid)
    );
    assert_eq!(
        t.types.unpin(t.table[3], ME, &mut t.work),
        Err(Refused::Invalid)
    );
    assert_eq!(
        t.types.pin(t.table[3], 5, ME, &mut t.work),
        Err(Refused::Invalid)
    );
    assert_eq!(
        t.types.pin(t.table[3], 3, DomId(2), &mut t.work),
        Err(Refused::Invalid)
    );
    t.types.unpin(t.table[4], ME, &mut t.work).unwrap();
    assert_eq!(
        t.types.unpin(t.table[4], ME, &mut t.work),
        Err(Refused::Invalid)
    );
}

#[test]
fn an_interrupted_pin_goes_on() {
    let mut t = tree();
    for n in 0..4 {
        t.types.set(t.table[2], 10 + n, Pte::new(t.spare[n], RW));
    }
    t.types.0.preempt_rate.store(256, Ordering::Relaxed);
    let mut turns = 0;
    while t.types.pin(t.table[4], 4, ME, &mut t.work) == Err(Refused::Again) {
        turns += 1;
        t.types.audit(&[]).unwrap();
        assert!(t.types.0.state(t.table[4]).has(State::PARTIAL));
        // While it is partial, the frame can be written neither as a table nor as a page.
        assert_eq!(t.update(4, 1, Pte(0)), Err(Refused::Invalid));
        assert!(t.types.get_writable(t.table[2], ME).is_none());
    }
    assert_eq!(turns, 4, "one table a turn");
    t.types.unpin(t.table[4], ME, &mut t.work).unwrap();
    let mut turns = 0;
    while t.types.finish(&mut t.work) == Progress::Again {
        turns += 1;
    }
    assert!(turns >= 3);
    assert!(t.table.iter().chain(&t.spare).all(|mfn| t.unused(*mfn)));
}

#[test]
fn an_abandoned_pin_ends_with_its_domain() {
    let mut t = tree();
    t.types.set(t.table[2], 10, Pte::new(t.spare[0], RW));
    t.types.0.preempt_rate.store(256, Ordering::Relaxed);
    assert_eq!(
        t.types.pin(t.table[4], 4, ME, &mut t.work),
        Err(Refused::Again)
    );
    t.pages.set_dying();
    let mut fresh = Work::new();
    while t.types.relinquish(&t.pages, &mut fresh) == Progress::Again {}
    assert!(t.pages.is_empty());
}

#[test]
fn a_frame_outlives_its_domain_while_it_is_mapped() {
    let mut t = tree();
    let dom0 = t.types.0.add_domain(0, 20);
    let table = t.types.give(&dom0).unwrap();
    t.types.pin(table, 1, DomId(0), &mut t.work).unwrap();
    let at = EntryAt { table, index: 1 };
    let lent = t.spare[0];
    assert!(t.types.take_writable_twice(lent, ME));
    t.types.put_simple(lent);
    t.types
        .map_grant(Width::Wide, DomId(0), at, Pte::new(lent, RW), &mut t.work)
        .unwrap();
    t.pages.set_dying();
    while t.types.relinquish(&t.pages, &mut t.work) == Progress::Again {}
    assert_eq!(t.pages.total(), 1);
    assert_eq!(
        t.types.unmap_grant(
            Width::Wide,
            DomId(0),
            at,
            Lent::ToWrite(t.spare[1]),
            Pte(0),
            &mut t.work
        ),
        Err(Refused::Invalid)
    );
    t.types
        .unmap_grant(
            Width::Wide,
            DomId(0),
            at,
            Lent::ToWrite(lent),
            Pte(0),
            &mut t.work,
        )
        .unwrap();
    assert!(t.pages.is_empty());
    assert!(t.types.give(&t.pages).is_err());
}

#[test]
fn emulated_writes_are_updates() {
    let t = Tree::pinned();
    let store = |table, offset, bytes, value| store(&t.types, ME, table, offset, bytes, value);
    let other = Pte::new(t.spare[0], RW);
    let old = store(t.table[1], 24, 8, other.0).unwrap();
    assert_eq!(old, Pte::new(t.table[0], RO));
    assert!(is_writable(&t, t.spare[0]) && t.unused(t.table[0]));
    // An entry that isn't the expected one stays, and the references for the new one go.
    let place = EntryAt {
        table: t.table[1],
        index: 3,
    };
    for new in [Pte(0), Pte::new(t.spare[1], RW), old] {
        let found = t.types.exchange_l1_entry(ME, place, old, new);
        assert_eq!(found, Ok(other));
        assert_eq!(t.types.get(t.table[1], 3), other);
    }
    assert!(t.unused(t.spare[1]) && t.unused(t.table[0]));
    // A store of 32 bits to half of an entry changes the low part of the frame number.
    assert_eq!(store(t.table[1], 24, 4, 0), Ok(other));
    assert!(t.unused(t.spare[0]));
    for (table, offset, value) in [
        (t.table[1], 4096, 0),
        (t.table[1], 24, t.table[1].maddr().0 | RW),
        (t.table[2], 24, 0),
        (t.spare[2], 24, 0),
    ] {
        let bad = store(table, offset, 8, value);
        assert!(bad.is_err(), "{table:?} {offset} {value:#x}: {bad:?}");
    }
    t.types.audit(&[]).unwrap();
}

#[test]
fn accessed_and_dirty_bits_can_stay() {
    let mut t = Tree::pinned();
    let used = Pte::new(t.table[0], RO | Pte::ACCESSED | Pte::DIRTY);
    t.types.set(t.table[1], 3, used);
    let update = Update {
        table: t.table[1],
        index: 3,
        new: Pte::new(t.spare[0], RO),
        keep: Keep::AccessedDirty,
        page_owner: ME,
    };
    t.types.change(ME, &update, &mut t.work).unwrap();
    assert_eq!(
        t.types.get(t.table[1], 3),
        Pte::new(t.spare[0], used.0 & 0xfff)
    );
}

#[test]
fn descriptor_pages() {
    let mut t = Tree::pinned();
    let page = t.spare[0];
    t.types.set(page, 4, Pte(0x00af_9b00_0000_ffff));
    t.types.get_segdesc(page, ME).unwrap().keep();
    assert_eq!(t.types.get(page, 4).0, 0x00af_fb00_0000_ffff, "ring 3");
    assert_eq!(t.update(1, 8, Pte::new(page, RW)), Err(Refused::Busy));
    t.update(1, 8, Pte::new(page, RO)).unwrap();
    let notices = |t: &Tree| t.types.0.ldt_notices.load(Ordering::Relaxed);
    assert_eq!(notices(&t), 0);
    t.update(1, 8, Pte(0)).unwrap();
    assert_eq!(notices(&t), 1);
    t.types.put_simple(page);
    assert!(t.types.get_segdesc_in_use(page, ME).is_none());
    t.types.set(page, 5, Pte(0x0000_8c00_0000_0000));
    assert!(t.types.get_segdesc(page, ME).is_none(), "a call gate");
    assert!(t.unused(page));
}

/// A notice may have to wait for another CPU, so a table that maps many pages of descriptors gives one.
#[test]
fn a_table_that_goes_gives_one_notice() {
    let mut t = Tree::pinned();
    let page = t.spare[0];
    t.types.get_segdesc(page, ME).unwrap().keep();
    for index in 8..40 {
        t.update(1, index, Pte::new(page, RO)).unwrap();
    }
    t.types.unpin(t.table[4], ME, &mut t.work).unwrap();
    assert_eq!(t.types.0.ldt_notices.load(Ordering::Relaxed), 1);
    t.types.put_simple(page);
    assert!(t.unused(page));
}

#[test]
fn walks() {
    let t = Tree::pinned();
    assert_eq!(t.types.l1_of(t.table[4], DATA_VA), Some((t.table[1], 3)));
    assert_eq!(
        t.types.lookup(t.table[4], DATA_VA).map(Pte::mfn),
        Some(t.table[0])
    );
    assert_eq!(t.types.lookup(t.table[4], Vaddr(1 << 30)), None);
    assert_eq!(
        t.types.lookup(t.table[4], Vaddr(0xffff_8300_0000_0000)),
        None
    );
    assert_eq!(t.types.lookup(t.table[4], Vaddr(1 << 50)), None);
    assert_eq!(t.types.lookup(Mfn::INVALID, DATA_VA), None);
}

/// Whether the frame has writable references.
fn is_writable(t: &Tree, mfn: Mfn) -> bool {
    let state = t.types.0.frame(mfn).expect("a frame").load();
    state.type_bits() == PageType::Writable as u64 && state.type_refs() > 0
}
