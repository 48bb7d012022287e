//! Tests of the rules, each with one claim.

use super::fake::*;
use crate::grant::*;
use crate::kit::words::fake::FakePage;
use crate::kit::{DomId, Maddr, Mfn, Pfn, Vaddr};
use crate::mm::heap::short;
use guest_pv_abi::grant_table as abi;

fn machine() -> FakeMachine {
    let mut m = FakeMachine::default();
    for mfn in 0..10 {
        m.owners.insert(100 + mfn, DomId(1));
        m.owners.insert(200 + mfn, DomId(2));
    }
    m
}

#[test]
fn a_grant_is_mapped_shown_and_let_go() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.grant(8, 2, 100);
    let mapped = u
        .table
        .map(&g.table, &at(8, 0x1000, Access::Write), &mut m)
        .unwrap();
    assert_eq!(mapped.mfn, Mfn(100));
    assert_eq!(
        g.flags(8),
        abi::GTF_PERMIT_ACCESS | abi::GTF_READING | abi::GTF_WRITING
    );
    // One reference is the handle's, the other the page-table entry's.
    assert_eq!(m.refs[&100], Refs { all: 2, writers: 2 });
    // The granter can't change what is mapped already.
    g.grant(8, 2, 101);
    let again = u
        .table
        .map(&g.table, &at(8, 0x2000, Access::Read), &mut m)
        .unwrap();
    assert_eq!(again.mfn, Mfn(100));
    unmap(&u, &mut m, &off(mapped.handle, 0x1000)).unwrap();
    unmap(&u, &mut m, &off(again.handle, 0x2000)).unwrap();
    assert_eq!(g.flags(8), abi::GTF_PERMIT_ACCESS);
    assert_eq!(m.refs[&100], Refs::default());
    assert_eq!(
        unmap(&u, &mut m, &off(again.handle, 0x2000)),
        Err(GrantError::BadHandle)
    );
}

#[test]
fn readers_and_writers_are_shown_apart() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.grant(0, 2, 100);
    let r = u
        .table
        .map(&g.table, &at(0, 0x1000, Access::Read), &mut m)
        .unwrap();
    assert_eq!(g.flags(0), abi::GTF_PERMIT_ACCESS | abi::GTF_READING);
    let w = u
        .table
        .map(&g.table, &at(0, 0x2000, Access::Write), &mut m)
        .unwrap();
    unmap(&u, &mut m, &off(w.handle, 0x2000)).unwrap();
    assert_eq!(g.flags(0), abi::GTF_PERMIT_ACCESS | abi::GTF_READING);
    unmap(&u, &mut m, &off(r.handle, 0x1000)).unwrap();
    assert_eq!(g.flags(0), abi::GTF_PERMIT_ACCESS);
}

#[test]
fn what_was_not_granted_is_refused() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    let mut map = |r, access| {
        u.table
            .map(&g.table, &at(r, 0x1000, access), &mut m)
            .map(|_| ())
    };
    assert_eq!(map(0, Access::Read), Err(GrantError::General));
    g.grant(0, 3, 100);
    assert_eq!(map(0, Access::Read), Err(GrantError::General));
    g.write(0, abi::GTF_PERMIT_ACCESS | abi::GTF_READONLY, 2, 100);
    assert_eq!(map(0, Access::Write), Err(GrantError::General));
    assert_eq!(map(0, Access::Read), Ok(()));
    g.write(1, abi::GTF_PERMIT_ACCESS | abi::GTF_SUB_PAGE, 2, 100);
    assert_eq!(map(1, Access::Read), Err(GrantError::General));
    g.write(1, abi::GTF_ACCEPT_TRANSFER, 2, 100);
    assert_eq!(map(1, Access::Read), Err(GrantError::General));
    // The frame is not one of the granter's own.
    g.grant(1, 2, 200);
    assert_eq!(map(1, Access::Read), Err(GrantError::BadPage));
    assert_eq!(g.flags(1), abi::GTF_PERMIT_ACCESS);
    for beyond in [512, 5000, u32::MAX] {
        assert_eq!(map(beyond, Access::Read), Err(GrantError::BadRef));
    }
}

#[test]
fn a_bad_place_undoes_everything() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.grant(0, 2, 100);
    let mut request = at(0, 0x100_0000, Access::Write);
    request.device = Device::Used;
    let refused = u.table.map(&g.table, &request, &mut m).map(|_| ());
    assert_eq!(refused, Err(GrantError::BadVirtAddr));
    assert_eq!(g.flags(0), abi::GTF_PERMIT_ACCESS);
    assert_eq!(m.refs[&100], Refs::default());
    request.host = None;
    request.device = Device::Unused;
    let nothing = u.table.map(&g.table, &request, &mut m).map(|_| ());
    assert_eq!(nothing, Err(GrantError::BadRef));
}

#[test]
fn host_and_device_parts_go_one_by_one() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.grant(0, 2, 100);
    let mut request = at(0, 0, Access::Read);
    request.host = Some(HostAddr::Pte(Maddr(0x3008)));
    request.device = Device::Used;
    let handle = u.table.map(&g.table, &request, &mut m).unwrap().handle;
    assert_eq!(m.refs[&100].all, 2);
    let part = |host_addr, dev_bus_addr| UnmapRequest {
        handle,
        host_addr,
        dev_bus_addr,
        replace_by: None,
    };
    assert_eq!(
        unmap(&u, &mut m, &part(0, 101 << 12)),
        Err(GrantError::General)
    );
    assert_eq!(
        unmap(&u, &mut m, &part(0x3010, 0)),
        Err(GrantError::General)
    );
    unmap(&u, &mut m, &part(0, 0)).unwrap();
    unmap(&u, &mut m, &part(0, 100 << 12)).unwrap();
    assert_eq!(
        (m.refs[&100].all, g.flags(0)),
        (2, abi::GTF_PERMIT_ACCESS | abi::GTF_READING)
    );
    unmap(&u, &mut m, &part(0x3008, 0)).unwrap();
    assert_eq!((m.refs[&100].all, g.flags(0)), (0, abi::GTF_PERMIT_ACCESS));
}

#[test]
fn nobody_unmaps_twice() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.grant(0, 2, 100);
    let handle = u
        .table
        .map(&g.table, &at(0, 0x1000, Access::Read), &mut m)
        .unwrap()
        .handle;
    let first = u.table.begin_unmap(&off(handle, 0x1000), &mut m).unwrap();
    // Another vCPU unmaps the grant between the two steps: it must not be told that the mapping is gone.
    let second = u.table.begin_unmap(&off(handle, 0x1000), &mut m);
    assert!(matches!(second, Err(GrantError::General)));
    assert_eq!(g.flags(0), abi::GTF_PERMIT_ACCESS | abi::GTF_READING);
    assert_eq!(m.refs[&100].all, 1);
    u.table.finish_unmap(first, &mut m);
    assert_eq!(m.refs[&100].all, 0);
}

#[test]
fn replacing_moves_an_entry_over() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.grant(0, 2, 100);
    g.grant(1, 2, 101);
    let one = u
        .table
        .map(&g.table, &at(0, 0x1000, Access::Read), &mut m)
        .unwrap();
    let two = u
        .table
        .map(&g.table, &at(1, 0x2000, Access::Read), &mut m)
        .unwrap();
    let mut request = off(one.handle, 0x1000);
    request.replace_by = Some(Vaddr(0x2000));
    unmap(&u, &mut m, &request).unwrap();
    assert_eq!((m.refs[&100].all, m.refs[&101].all), (0, 2));
    unmap(&u, &mut m, &off(two.handle, 0x1000)).unwrap();
    assert_eq!((m.refs[&101].all, m.ptes.len()), (0, 0));
}

#[test]
fn handles_and_frames_have_their_limits() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.grant(0, 2, 100);
    let mut request = at(0, 0, Access::Read);
    (request.host, request.device) = (None, Device::Used);
    for n in 0..512 {
        assert_eq!(u.table.map(&g.table, &request, &mut m).unwrap().handle, n);
    }
    let full = u.table.map(&g.table, &request, &mut m).map(|_| ());
    assert_eq!(full, Err(GrantError::NoSpace));
    assert_eq!(g.table.size(), (1, 2));
    assert_eq!(g.table.grow(3, &mut || None), Err(GrantError::General));
    assert_eq!(g.table.grow(2, &mut || None), Err(GrantError::General));
    assert_eq!(g.table.grow(2, &mut || Some(g.page.clone())), Ok(()));
    assert_eq!(g.table.size(), (2, 2));
}

#[test]
fn copies_take_grants_and_own_frames() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.write(0, abi::GTF_PERMIT_ACCESS | abi::GTF_READONLY, 2, 100);
    let copy = |from, to, piece: (u16, u16, u16), m: &mut FakeMachine| {
        let (from_at, to_at, bytes) = piece;
        let piece = Piece {
            from: from_at,
            to: to_at,
            bytes,
        };
        copy(&u.table, (&from, &to), piece, &|_| None, m)
    };
    let grant = || CopySide::Grant(&g.table, 0);
    let own = || CopySide::Frame(Mfn(200));
    assert_eq!(copy(grant(), own(), (8, 0, 4088), &mut m), Ok(()));
    assert_eq!(m.copies, [((Mfn(100), 8), (Mfn(200), 0), 4088)]);
    let mut refused = |from, to, piece| copy(from, to, piece, &mut m).err();
    let bad = Some(GrantError::BadCopyArg);
    assert_eq!(refused(grant(), own(), (9, 0, 4088)), bad);
    assert_eq!(refused(own(), own(), (0, 0xffff, 0xffff)), bad);
    // The sides are checked before the piece, as on Xen.
    let nothing = CopySide::Grant(&g.table, 9999);
    assert_eq!(
        refused(nothing, own(), (9, 0, 4088)),
        Some(GrantError::BadRef)
    );
    let readonly = refused(own(), grant(), (0, 0, 1));
    assert_eq!(readonly, Some(GrantError::General));
    let foreign = CopySide::Frame(Mfn(100));
    assert_eq!(
        refused(foreign, own(), (0, 0, 1)),
        Some(GrantError::BadPage)
    );
    assert_eq!(m.copies.len(), 1);
    assert!(m.refs.values().all(|refs| *refs == Refs::default()));
    assert_eq!(g.flags(0), abi::GTF_PERMIT_ACCESS | abi::GTF_READONLY);
}

#[test]
fn transfers_commit_before_they_complete() {
    let g = Dom::new(1);
    g.write(3, abi::GTF_ACCEPT_TRANSFER, 2, 77);
    assert_eq!(
        g.table.begin_transfer(3, DomId(3)),
        Err(GrantError::General)
    );
    g.table.begin_transfer(3, DomId(2)).unwrap();
    assert_eq!(
        g.flags(3),
        abi::GTF_ACCEPT_TRANSFER | abi::GTF_TRANSFER_COMMITTED
    );
    assert_eq!(
        g.table.begin_transfer(3, DomId(2)),
        Err(GrantError::General)
    );
    assert_eq!(g.table.finish_transfer(3, Mfn(0x1234)), Some(Pfn(77)));
    assert_ne!(g.flags(3) & abi::GTF_TRANSFER_COMPLETED, 0);
    assert_eq!(g.table.finish_transfer(3, Mfn(1)), Some(Pfn(0x1234)));
}

#[test]
fn swapping_needs_both_unused() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.grant(0, 2, 100);
    g.write(1, abi::GTF_INVALID, 9, 5);
    let handle = u
        .table
        .map(&g.table, &at(0, 0x1000, Access::Read), &mut m)
        .unwrap()
        .handle;
    assert_eq!(g.table.swap(0, 1), Err(GrantError::Busy));
    unmap(&u, &mut m, &off(handle, 0x1000)).unwrap();
    g.table.swap(0, 1).unwrap();
    assert_eq!(
        (g.flags(0), g.flags(1)),
        (abi::GTF_INVALID, abi::GTF_PERMIT_ACCESS)
    );
    assert_eq!(g.table.swap(0, 512), Err(GrantError::BadRef));
    assert!(
        u.table
            .map(&g.table, &at(1, 0x1000, Access::Read), &mut m)
            .is_ok()
    );
}

#[test]
fn mappings_outlive_the_granter() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.grant(0, 2, 100);
    let handle = u
        .table
        .map(&g.table, &at(0, 0x1000, Access::Write), &mut m)
        .unwrap()
        .handle;
    g.table.retire();
    assert_eq!(g.page.handles(), 1);
    let late = u
        .table
        .map(&g.table, &at(0, 0x2000, Access::Write), &mut m)
        .map(|_| ());
    assert_eq!(late, Err(GrantError::BadRef));
    let table = alloc::sync::Arc::downgrade(&g.table);
    drop(g);
    assert!(table.upgrade().is_some());
    unmap(&u, &mut m, &off(handle, 0x1000)).unwrap();
    assert!(table.upgrade().is_none());
    assert_eq!(m.refs[&100], Refs::default());
}

#[test]
fn a_dead_mapper_lets_go_of_everything() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.grant(0, 2, 100);
    for n in 0..300 {
        let mut request = at(0, 0x1000 * (n + 1), Access::Write);
        request.device = Device::Used;
        u.table.map(&g.table, &request, &mut m).unwrap();
    }
    let mut stops = 0;
    while u.table.release_handles(&mut || true, &mut m) == Sweep::Again {
        stops += 1;
    }
    assert_eq!(stops, 8);
    assert_eq!(g.flags(0), abi::GTF_PERMIT_ACCESS);
    // The references of page-table entries are left. They are dropped with the page tables.
    assert_eq!(
        m.refs[&100],
        Refs {
            all: 300,
            writers: 300
        }
    );
    let late = u
        .table
        .map(&g.table, &at(0, 0x1000, Access::Write), &mut m)
        .map(|_| ());
    assert_eq!(late, Err(GrantError::General));
}

/// Guests can't use up the hypervisor's last memory with handles and entries.
#[test]
fn tables_do_not_grow_into_the_reserve() {
    let (g, u, mut m) = (Dom::new(1), Dom::new(2), machine());
    g.grant(0, 2, 100);
    let map = |m: &mut FakeMachine| u.table.map(&g.table, &at(0, 0x1000, Access::Read), m);
    let mapped = short::of_memory(|| map(&mut m));
    assert_eq!(mapped.err(), Some(GrantError::NoSpace));
    assert!(map(&mut m).is_ok());
    let grow = || g.table.grow(2, &mut || Some(FakePage::new()));
    assert_eq!(short::of_memory(grow), Err(GrantError::General));
    assert_eq!(grow(), Ok(()));
}
