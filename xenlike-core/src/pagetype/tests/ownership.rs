//! Tests of ownership: frames that are stolen, shared, charged, or whose owner gets another id.

use crate::kit::atomic::Ordering;

use crate::kit::{DomId, Mfn};
use crate::mm::frame::State;
use crate::pagetype::{Charge, Keep, Memory, PageType, Pte, Refused, Update};

use super::tree::{ME, RO, RW, Tree};

#[test]
fn only_an_unused_frame_can_be_taken_away() {
    let mut t = Tree::pinned();
    let page = t.spare[0];
    t.update(1, 8, Pte::new(page, RO)).unwrap();
    assert_eq!(
        t.types.steal(&t.pages, page, Charge::Counted),
        Err(Refused::Busy)
    );
    assert_eq!(
        t.types.steal(&t.pages, t.table[2], Charge::Counted),
        Err(Refused::Busy)
    );
    t.update(1, 8, Pte(0)).unwrap();
    let total = t.pages.total();
    t.types.steal(&t.pages, page, Charge::Counted).unwrap();
    assert_eq!(t.pages.total(), total - 1);
    assert_eq!(
        t.types.steal(&t.pages, page, Charge::Counted),
        Err(Refused::Invalid)
    );
    let other = t.types.0.add_domain(2, 1);
    t.types.assign(&other, page, 0, Charge::Counted).unwrap();
    let another = t.types.0.take().unwrap();
    assert_eq!(
        t.types.assign(&other, another, 0, Charge::Counted),
        Err(crate::pagetype::NoRoom::OverMax)
    );
    assert!(t.types.get_page(page, DomId(2)).is_some());
}

#[test]
fn a_shared_page_stays_until_both_let_go() {
    let mut t = Tree::pinned();
    let own = t.types.0.take().unwrap();
    t.types.share(&t.pages, own);
    assert_eq!(t.types.pin(own, 1, ME, &mut t.work), Err(Refused::Invalid));
    t.update(1, 8, Pte::new(own, RW)).unwrap();
    assert_eq!(
        t.types
            .disown(&t.pages, own, &mut t.types.leaving(&t.pages)),
        Err(Refused::Invalid)
    );
    assert_eq!(
        t.types.steal(&t.pages, own, Charge::Counted),
        Err(Refused::Busy)
    );
    t.types.unshare(own);
    assert_eq!(t.pages.shared(), 1);
    t.update(1, 8, Pte(0)).unwrap();
    assert_eq!(t.pages.shared(), 0);
}

/// An update that maps a frame which is shared with all domains.
fn of_xen(table: Mfn, frame: Mfn, flags: u64) -> Update {
    Update {
        table,
        index: 8,
        new: Pte::new(frame, flags),
        keep: Keep::Nothing,
        page_owner: DomId::XEN,
    }
}

#[test]
fn what_is_read_only_for_all_stays_so() {
    let mut t = Tree::pinned();
    let own = t.types.0.take().unwrap();
    t.types.share_read_only(own);
    let table = t.table[1];
    let update = |flags| of_xen(table, own, flags);
    assert_eq!(
        t.types.change(ME, &update(RW), &mut t.work),
        Err(Refused::Busy)
    );
    assert_eq!(t.types.change(ME, &update(RO), &mut t.work), Ok(()));
    assert_eq!(
        t.types
            .disown(&t.pages, own, &mut t.types.leaving(&t.pages)),
        Err(Refused::Invalid)
    );
}

#[test]
fn what_is_writable_for_all_is_nothing_else() {
    let mut t = Tree::pinned();
    let own = t.types.0.take().unwrap();
    t.types.share_writable(own);
    let table = t.table[1];
    let update = |flags| of_xen(table, own, flags);
    for flags in [RO, RW, RO] {
        assert_eq!(t.types.change(ME, &update(flags), &mut t.work), Ok(()));
    }
    assert!(t.types.pin(own, 1, DomId::XEN, &mut t.work).is_err());
    t.update(1, 8, Pte(0)).unwrap();
    assert!(t.types.pin(own, 1, ME, &mut t.work).is_err());
    assert_eq!(
        t.types
            .disown(&t.pages, own, &mut t.types.leaving(&t.pages)),
        Err(Refused::Invalid)
    );
}

#[test]
fn counts_do_not_overflow() {
    let mut t = Tree::pinned();
    let (page, frame) = (t.spare[0], t.types.0.frame(t.spare[0]).unwrap());
    let state = frame.load();
    frame
        .state
        .store(state.0 | ((1 << 27) - 1), Ordering::Relaxed);
    assert!(t.types.get_page(page, ME).is_none());
    let update = Update {
        table: t.table[1],
        index: 8,
        new: Pte::new(page, RO),
        keep: Keep::Nothing,
        page_owner: ME,
    };
    assert_eq!(t.types.change(ME, &update, &mut t.work), Err(Refused::Busy));
    let full = (((1u64 << 26) - 1) << 27) | ((PageType::Writable as u64) << 53);
    frame
        .state
        .store(state.0 | full | State::VALIDATED, Ordering::Relaxed);
    assert!(t.types.get_writable(page, ME).is_none());
}

#[test]
fn a_renamed_domain_keeps_what_it_has() {
    let mut t = Tree::pinned();
    let own = t.types.0.take().unwrap();
    t.types.share(&t.pages, own);
    t.types.rename(&t.pages, DomId(7));
    assert!(t.types.get_page(t.table[4], ME).is_none());
    assert!(t.types.get_page(t.table[4], DomId(7)).is_some());
    assert!(t.types.get_page(own, DomId(7)).is_some());
    t.types.audit(&[own]).unwrap();
    t.types.unpin(t.table[4], DomId(7), &mut t.work).unwrap();
}
