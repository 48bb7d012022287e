//! Tests of what is different in tables of version 2, and of the change of version.

use super::fake::*;
use crate::grant::copy::AnySide;
use crate::grant::*;
use crate::kit::atomic::Ordering::SeqCst;
use crate::kit::{DomId, Mfn, Pfn};
use guest_pv_abi::grant_table as abi;

const PERMIT: u16 = abi::GTF_PERMIT_ACCESS;
const READS: u16 = abi::GTF_READING;
const WRITES: u16 = abi::GTF_READING | abi::GTF_WRITING;

fn machine() -> FakeMachine {
    let mut m = FakeMachine::default();
    for mfn in 0..10 {
        for dom in 1..4 {
            m.owners.insert(u64::from(dom) * 100 + mfn, DomId(dom));
        }
    }
    m
}

/// Domains 1 to 3, with tables of version 2.
fn domains() -> [Dom; 3] {
    [1, 2, 3].map(|id| {
        let dom = Dom::new(id);
        dom.set_version(Version::V2).unwrap();
        dom
    })
}

fn map(g: &Dom, u: &Dom, r: u32, access: Access, m: &mut FakeMachine) -> Result<u32, GrantError> {
    let mapped = u.table.map(&g.table, &at(r, 0x1000, access), m);
    mapped.map(|mapped| mapped.handle)
}

/// Domain 2 copies out of entry `r` of domain 1, or into it. `place` is the first byte and the number of bytes.
fn copy_2(
    doms: &[Dom; 3],
    r: u32,
    access: Access,
    place: (u16, u16),
    m: &mut FakeMachine,
) -> Result<(), GrantError> {
    let (grant, own) = (
        CopySide::Grant(&doms[0].table, r),
        CopySide::Frame(Mfn(200)),
    );
    copy_at(&doms[1], (&grant, &own), access, place, &find(doms), m)
}

fn find(
    doms: &[Dom; 3],
) -> impl Fn(DomId) -> Option<alloc::sync::Arc<Table<crate::kit::words::fake::FakePage>>> {
    |id| doms.get(usize::from(id.0) - 1).map(|dom| dom.table.clone())
}

#[test]
fn uses_are_shown_beside_the_entry() {
    let ([g, u, _], mut m) = (domains(), machine());
    g.grant(255, 2, 100);
    let handle = map(&g, &u, 255, Access::Write, &mut m).unwrap();
    assert_eq!((g.flags(255), g.shown(255)), (PERMIT, WRITES));
    unmap(&u, &mut m, &off(handle, 0x1000)).unwrap();
    assert_eq!((g.flags(255), g.shown(255)), (PERMIT, 0));
    g.grant(0, 3, 100);
    g.write(1, PERMIT | abi::GTF_READONLY, 2, 100);
    g.write_all(2, (PERMIT | abi::GTF_SUB_PAGE, 2), (0, 8), 100);
    g.write_all(3, (abi::GTF_TRANSITIVE, 2), (3, 0), 0);
    for r in 0..4 {
        let refused = map(&g, &u, r, Access::Write, &mut m);
        assert_eq!((refused, g.shown(r)), (Err(GrantError::General), 0));
    }
    // A frame has half as many entries as in version 1.
    let beyond = map(&g, &u, 256, Access::Read, &mut m);
    assert_eq!(beyond, Err(GrantError::BadRef));
    g.table.grow(2, &mut || Some(g.page.clone())).unwrap();
    g.grant(0, 2, 101);
    assert!(map(&g, &u, 256, Access::Read, &mut m).is_ok());
}

#[test]
fn a_part_of_a_page_is_copied_and_no_more() {
    let (doms, mut m) = (domains(), machine());
    let part = abi::GTF_SUB_PAGE | PERMIT;
    doms[0].write_all(9, (part, 2), (100, 50), 100);
    let mut copies = |offset, bytes| copy_2(&doms, 9, Access::Write, (offset, bytes), &mut m);
    for fits in [(100, 50), (100, 1), (149, 1), (120, 0)] {
        assert_eq!(copies(fits.0, fits.1), Ok(()));
    }
    for beyond in [(99, 2), (149, 2), (100, 51), (0, 4096), (150, 1)] {
        assert_eq!(copies(beyond.0, beyond.1), Err(GrantError::General));
    }
    assert_eq!(copies(4000, 97), Err(GrantError::BadCopyArg));
    assert_eq!(m.copies.len(), 4);
    // A grant never reaches beyond its page, whatever the granter writes.
    doms[0].write_all(9, (part, 2), (4000, 0xffff), 100);
    assert_eq!(copy_2(&doms, 9, Access::Read, (4000, 96), &mut m), Ok(()));
    doms[0].write_all(9, (part, 2), (0xffff, 0xffff), 100);
    let none = copy_2(&doms, 9, Access::Read, (4095, 1), &mut m);
    assert_eq!(none, Err(GrantError::General));
    assert!(m.refs.values().all(|refs| *refs == Refs::default()));
}

#[test]
fn a_transitive_grant_leads_one_step_further() {
    let (doms, mut m) = (domains(), machine());
    let through = |dom, r| doms[0].write_all(9, (abi::GTF_TRANSITIVE, 2), (dom, 0), r);
    let copy_it = |m: &mut FakeMachine| copy_2(&doms, 9, Access::Read, (8, 8), m);
    through(3, 20);
    // Domain 3 must have granted the frame to domain 1, which passes it on.
    assert_eq!(copy_it(&mut m), Err(GrantError::General));
    doms[2].grant(20, 2, 300);
    assert_eq!(copy_it(&mut m), Err(GrantError::General));
    doms[2].write(20, PERMIT | abi::GTF_READONLY, 1, 300);
    assert_eq!(copy_it(&mut m), Ok(()));
    assert_eq!(m.copies, [((Mfn(300), 8), (Mfn(200), 8), 8)]);
    let write = copy_2(&doms, 9, Access::Write, (8, 8), &mut m);
    assert_eq!(write, Err(GrantError::General));
    // The frame must be domain 3's, not domain 1's.
    doms[2].grant(20, 1, 100);
    assert_eq!(copy_it(&mut m), Err(GrantError::BadPage));
    // A transitive grant must not lead to its own table, to another transitive grant, to an entry that doesn't
    // exist, or to a domain that doesn't exist.
    doms[2].write_all(20, (abi::GTF_TRANSITIVE, 1), (2, 0), 0);
    assert_eq!(copy_it(&mut m), Err(GrantError::General));
    for (dom, r, error) in [
        (1, 20, GrantError::General),
        (3, 256, GrantError::BadRef),
        (9, 20, GrantError::General),
        (DomId::INVALID.0, 20, GrantError::General),
    ] {
        through(dom, r);
        assert_eq!(copy_it(&mut m), Err(error));
    }
    assert!(m.refs.values().all(|refs| *refs == Refs::default()));
    assert_eq!((doms[0].shown(9), doms[2].shown(20)), (0, 0));
}

#[test]
fn both_entries_of_a_transitive_grant_are_in_use() {
    let (doms, mut m) = (domains(), machine());
    doms[0].write_all(9, (abi::GTF_TRANSITIVE, 2), (3, 0), 20);
    doms[2].grant(20, 1, 300);
    let side = CopySide::Grant(&doms[0].table, 9);
    let hold = |access, m: &mut FakeMachine| {
        AnySide::hold(&doms[1].table, &side, access, &find(&doms), m).unwrap()
    };
    let read = hold(Access::Read, &mut m);
    assert_eq!((doms[0].shown(9), doms[2].shown(20)), (READS, READS));
    // The first use determines what the grant leads to.
    doms[0].write_all(9, (PERMIT, 2), (0, 0), 100);
    let write = hold(Access::Write, &mut m);
    assert_eq!((doms[0].shown(9), doms[2].shown(20)), (WRITES, WRITES));
    let mapped = map(&doms[0], &doms[1], 9, Access::Read, &mut m);
    assert_eq!(mapped, Err(GrantError::General));
    write.let_go(&mut m);
    assert_eq!((doms[0].shown(9), doms[2].shown(20)), (READS, READS));
    read.let_go(&mut m);
    assert_eq!((doms[0].shown(9), doms[2].shown(20)), (0, 0));
    assert!(m.refs.values().all(|refs| *refs == Refs::default()));
    assert!(map(&doms[0], &doms[1], 9, Access::Read, &mut m).is_ok());
}

#[test]
fn a_granter_may_scribble_on_its_status_words() {
    let ([g, u, _], mut m) = (domains(), machine());
    // A mark that the granter sets itself remains until the last use ends.
    g.grant(9, 2, 100);
    g.status(9).store(abi::GTF_WRITING, SeqCst);
    let handle = map(&g, &u, 9, Access::Read, &mut m).unwrap();
    assert_eq!(g.shown(9), WRITES);
    unmap(&u, &mut m, &off(handle, 0x1000)).unwrap();
    assert_eq!(g.shown(9), 0);
}

#[test]
fn a_new_version_keeps_the_first_entries() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.grant(0, 2, 100);
    g.grant(7, 2, 101);
    g.grant(8, 2, 102);
    let handle = map(&g, &u, 0, Access::Write, &mut m).unwrap();
    g.set_version(Version::V2).unwrap();
    assert_eq!((g.flags(0), g.shown(0)), (PERMIT, WRITES));
    assert_eq!((g.flags(7), g.flags(8)), (PERMIT, 0));
    let second = map(&g, &u, 7, Access::Read, &mut m).unwrap();
    g.set_version(Version::V1).unwrap();
    assert_eq!(g.flags(0), PERMIT | WRITES);
    assert_eq!(g.flags(7), PERMIT | READS);
    for handle in [handle, second] {
        let place = off(handle, 0x1000);
        let _second_took_the_place = unmap(&u, &mut m, &place);
    }
    assert_eq!(g.flags(7), PERMIT);
}

#[test]
fn a_version_changes_only_while_entries_are_unused() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.grant(8, 2, 100);
    let handle = map(&g, &u, 8, Access::Read, &mut m).unwrap();
    assert_eq!(g.set_version(Version::V2), Err(Refused::Busy));
    assert_eq!(g.set_version(Version::V1), Ok(()));
    assert_eq!(g.flags(8), PERMIT | READS);
    unmap(&u, &mut m, &off(handle, 0x1000)).unwrap();
    g.write(3, abi::GTF_ACCEPT_TRANSFER, 2, 5);
    assert_eq!(g.set_version(Version::V2), Err(Refused::BadEntry));
    g.write(3, 0, 0, 0);
    assert_eq!(g.set_version(Version::V2), Ok(()));
    let guests = g.status.clone();
    assert_eq!(g.set_version(Version::V1), Err(Refused::Busy));
    assert_eq!(g.table.version(), Version::V2);
    drop(guests);
    assert_eq!(g.set_version(Version::V1), Ok(()));
    assert_eq!(g.table.status_size(), (0, 1));
    let limits = Limits {
        grant_frames: 1,
        maptrack_frames: 1,
        version: Version::V1,
        transitive: true,
    };
    let old = Table::<crate::kit::words::fake::FakePage>::new(DomId(9), limits).unwrap();
    let set = |version| old.set_version(version, || None, |_| false);
    assert_eq!(set(Version::V2), Err(Refused::Unsupported));
    assert_eq!(set(Version::V1), Ok(()));
}

#[test]
fn a_version_needs_memory_for_its_status_words() {
    let g = Dom::new(1);
    let set = g.table.set_version(Version::V2, || None, |_| false);
    assert_eq!(
        (set, g.table.version()),
        (Err(Refused::NoMemory), Version::V1)
    );
    assert_eq!(g.set_version(Version::V2), Ok(()));
    // One frame of status words covers eight frames of entries.
    assert_eq!(g.table.status_size(), (1, 1));
    assert!(g.table.with_status(0, |_| ()).is_some());
    assert!(g.table.with_status(1, |_| ()).is_none());
}

#[test]
fn frames_move_to_entries_of_both_versions() {
    let [g, ..] = domains();
    let pfn = 1 << 33;
    g.write_all(3, (abi::GTF_ACCEPT_TRANSFER, 2), (0, 0), pfn);
    g.table.begin_transfer(3, DomId(2)).unwrap();
    let arrived = Mfn(1 << 34);
    assert_eq!(g.table.finish_transfer(3, arrived), Some(Pfn(pfn)));
    assert_ne!(g.flags(3) & abi::GTF_TRANSFER_COMPLETED, 0);
    g.table.swap(3, 4).unwrap();
    assert_eq!((g.flags(3), g.flags(4) & PERMIT), (0, 0));
    assert_eq!(g.table.finish_transfer(4, Mfn(0)), Some(Pfn(arrived.0)));
}
