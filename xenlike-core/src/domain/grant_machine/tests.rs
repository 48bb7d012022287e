//! Grants between two domains on the host: what maps, copies and unmaps reach, and what is left of them.

use crate::kit::atomic::Ordering::SeqCst;

use alloc::sync::Arc;

use super::*;
use crate::grant::{
    self, CopySide, Device, Limits, MapRequest, Piece, Sweep, Table, UnmapRequest, Version,
};
use crate::kit::words::fake::FakePage;
use crate::kit::{Maddr, SharedWords};
use crate::mm::alloc::Where;
use crate::pagetype::{Charge, DomainPages, Keep, Update, forget, register};
use guest_pv_abi::grant_table as abi;

const FLAGS: u64 = Pte::PRESENT | Pte::WRITABLE | Pte::USER;

/// A domain with real frames and a grant table.
struct Dom {
    pages: Arc<DomainPages>,
    grants: Arc<Table<FakePage>>,
    entries: FakePage,
    work: Work,
}

impl Dom {
    fn new(id: u16) -> Self {
        let pages = Arc::new(DomainPages::new(DomId(id), 64));
        register(Arc::clone(&pages)).unwrap();
        let limits = Limits {
            grant_frames: 1,
            maptrack_frames: 1,
            version: Version::V2,
            transitive: true,
        };
        let (grants, entries) = (Table::new(DomId(id), limits).unwrap(), FakePage::new());
        grants.grow(1, &mut || Some(entries.clone())).unwrap();
        Self {
            pages,
            grants,
            entries,
            work: Work::new(),
        }
    }
    fn frame(&self) -> Mfn {
        machine()
            .allocate(&self.pages, 0, Where::ANY, Charge::Counted)
            .unwrap()
    }
    fn grant(&self, r: usize, to: &Self, mfn: Mfn, flags: u16) {
        let flags = abi::GTF_PERMIT_ACCESS | flags;
        self.entries
            .u32(r * 8 + 4)
            .unwrap()
            .store(mfn.0 as u32, SeqCst);
        let word = u32::from(flags) | u32::from(to.pages.id().0) << 16;
        self.entries.u32(r * 8).unwrap().store(word, SeqCst);
    }
    fn mapper(&mut self, root: Option<Mfn>) -> Mapper<'_> {
        Mapper {
            owner: self.pages.id(),
            past: self.pages.past(),
            root: root
                .map(|l4| &*std::boxed::Box::leak(std::boxed::Box::new(GuestRoot::of_pinned(l4)))),
            work: &mut self.work,
        }
    }
    /// Makes an address space in which address 0 is not mapped yet. Returns its L4, which is pinned,
    /// and its L1.
    fn tables(&mut self) -> (Mfn, Mfn) {
        let tables = [self.frame(), self.frame(), self.frame(), self.frame()];
        for pair in tables.windows(2) {
            let page = SharedPage::new(pair[1]).unwrap();
            page.u64(0)
                .unwrap()
                .store(Pte::new(pair[0], FLAGS).0, SeqCst);
        }
        machine()
            .pin(tables[3], 4, self.pages.id(), &mut self.work)
            .unwrap();
        (tables[3], tables[0])
    }
    /// Writes an entry, as mmu_update does.
    fn write(&mut self, l1: Mfn, index: usize, new: Pte) -> Result<(), ()> {
        let page_owner = self.pages.id();
        let update = Update {
            table: l1,
            index,
            new,
            keep: Keep::Nothing,
            page_owner,
        };
        machine()
            .update_l1_entry(self.pages.width(), self.pages.id(), &update, &mut self.work)
            .map_err(|_| ())
    }
    /// Destroys the domain and checks that all its frames are freed.
    fn end(mut self) {
        self.grants.retire();
        let grants = Arc::clone(&self.grants);
        let swept = grants.release_handles(&mut || false, &mut self.mapper(None));
        assert_eq!(swept, Sweep::Done);
        self.pages.set_dying();
        let done = machine().relinquish(&self.pages, &mut self.work);
        assert_eq!(done, crate::pagetype::Progress::Done);
        assert!(self.pages.is_empty(), "{} frames left", self.pages.total());
        forget(self.pages.id(), &self.pages);
    }
}

fn request(r: u32, host: HostAddr, access: Access) -> MapRequest {
    MapRequest {
        r,
        host: Some(host),
        device: Device::Unused,
        bits: PteBits {
            access,
            space: crate::grant::Space::Kernel,
            avail: 5,
        },
    }
}

fn unmap(dom: &mut Dom, root: Mfn, handle: u32, host_addr: u64) -> Result<(), GrantError> {
    let grants = Arc::clone(&dom.grants);
    let mut mapper = dom.mapper(Some(root));
    let request = UnmapRequest {
        handle,
        host_addr,
        dev_bus_addr: 0,
        replace_by: None,
    };
    let unmapping = grants.begin_unmap(&request, &mut mapper)?;
    mapper.flush();
    grants.finish_unmap(unmapping, &mut mapper);
    Ok(())
}

fn map(dom: &mut Dom, of: &Dom, root: Mfn, request: &MapRequest) -> Result<u32, GrantError> {
    let grants = Arc::clone(&dom.grants);
    grants
        .map(&of.grants, request, &mut dom.mapper(Some(root)))
        .map(|m| m.handle)
}

#[test]
fn a_frame_lent_writable_can_be_no_page_table() {
    let (mut g, mut u) = (Dom::new(0x101), Dom::new(0x102));
    let (root, l1) = u.tables();
    let lent = g.frame();
    g.grant(3, &u, lent, 0);
    let at = request(3, HostAddr::Va(Vaddr(0x5000)), Access::Write);
    let handle = map(&mut u, &g, root, &at).unwrap();
    let pte = machine().read_entry(l1, 5).unwrap();
    assert_eq!(
        (pte.mfn(), pte.0 >> 9 & 7, pte.is_writable()),
        (lent, 5, true)
    );
    let id = g.pages.id();
    assert!(machine().pin(lent, 1, id, &mut g.work).is_err());
    assert_eq!(
        unmap(&mut u, root, handle, 0x6000),
        Err(GrantError::General)
    );
    unmap(&mut u, root, handle, 0x5000).unwrap();
    assert!(!machine().read_entry(l1, 5).unwrap().is_present());
    machine().pin(lent, 1, id, &mut g.work).unwrap();
    // Now that the frame is a page table, it can be mapped read-only, but not writable.
    g.grant(4, &u, lent, 0);
    let mut at = request(4, HostAddr::Pte(Maddr(l1.maddr().0 + 8)), Access::Write);
    assert_eq!(map(&mut u, &g, root, &at), Err(GrantError::General));
    at.bits.access = Access::Read;
    let handle = map(&mut u, &g, root, &at).unwrap();
    assert_eq!(unmap(&mut u, root, handle, l1.maddr().0 + 8), Ok(()));
    u.end();
    g.end();
}

#[test]
fn a_mapper_can_neither_copy_nor_upgrade_what_it_was_lent() {
    let (g, mut u) = (Dom::new(0x103), Dom::new(0x104));
    let (root, l1) = u.tables();
    let lent = g.frame();
    g.grant(0, &u, lent, abi::GTF_READONLY);
    let at = |access| request(0, HostAddr::Va(Vaddr(0x1000)), access);
    assert_eq!(
        map(&mut u, &g, root, &at(Access::Write)),
        Err(GrantError::General)
    );
    map(&mut u, &g, root, &at(Access::Read)).unwrap();
    let pte = machine().read_entry(l1, 1).unwrap();
    assert!(u.write(l1, 1, Pte(pte.0 | Pte::WRITABLE)).is_err());
    assert!(u.write(l1, 2, pte).is_err());
    // Overwriting the entry is harmless; the handle then can't be unmapped until the domain ends.
    u.write(l1, 1, Pte(0)).unwrap();
    assert_eq!(unmap(&mut u, root, 0, 0x1000), Err(GrantError::General));
    u.end();
    g.end();
}

#[test]
fn an_unmapping_takes_away_the_sort_of_mapping_that_the_handle_is() {
    let (g, mut u) = (Dom::new(0x109), Dom::new(0x10a));
    let (root, l1) = u.tables();
    let lent = g.frame();
    g.grant(0, &u, lent, abi::GTF_READONLY);
    g.grant(1, &u, lent, 0);
    let read = request(0, HostAddr::Va(Vaddr(0x1000)), Access::Read);
    let write = request(1, HostAddr::Pte(Maddr(l1.maddr().0 + 16)), Access::Write);
    let reads = map(&mut u, &g, root, &read).unwrap();
    let writes = map(&mut u, &g, root, &write).unwrap();
    // Otherwise the granter would believe that the frame can no longer be written.
    let refused = Err(GrantError::General);
    assert_eq!(unmap(&mut u, root, reads, 0x2000), refused);
    let read_only = l1.maddr().0 + 8;
    assert_eq!(unmap(&mut u, root, writes, read_only), refused);
    assert_eq!(unmap(&mut u, root, reads, 0x1000), Ok(()));
    let writable = l1.maddr().0 + 16;
    assert_eq!(unmap(&mut u, root, writes, writable), Ok(()));
    u.end();
    g.end();
}

#[test]
fn frames_outlive_their_owner_as_long_as_they_are_mapped() {
    let (g, mut u) = (Dom::new(0x105), Dom::new(0x106));
    let (root, _) = u.tables();
    let lent = g.frame();
    g.grant(0, &u, lent, 0);
    let at = request(0, HostAddr::Va(Vaddr(0x1000)), Access::Write);
    let handle = map(&mut u, &g, root, &at).unwrap();
    let Dom {
        pages,
        grants,
        mut work,
        ..
    } = g;
    grants.retire();
    pages.set_dying();
    assert_eq!(
        machine().relinquish(&pages, &mut work),
        crate::pagetype::Progress::Done
    );
    assert_eq!(pages.total(), 1);
    assert_eq!(
        map(
            &mut u,
            &Dom {
                pages: Arc::clone(&pages),
                grants,
                entries: FakePage::new(),
                work
            },
            root,
            &at
        ),
        Err(GrantError::BadRef)
    );
    unmap(&mut u, root, handle, 0x1000).unwrap();
    assert_eq!(pages.total(), 0);
    forget(pages.id(), &pages);
    u.end();
}

#[test]
fn copies_reach_what_the_caller_may_reach() {
    let (g, mut u) = (Dom::new(0x107), Dom::new(0x108));
    let (lent, own) = (g.frame(), u.frame());
    g.grant(0, &u, lent, abi::GTF_READONLY);
    let source = SharedPage::new(lent).unwrap();
    source.u64(8).unwrap().store(0x1234_5678, SeqCst);
    let grants = Arc::clone(&u.grants);
    let mut mapper = u.mapper(None);
    let mut copy = |from, to, (from_at, to_at)| {
        let piece = Piece {
            from: from_at,
            to: to_at,
            bytes: 8,
        };
        grant::copy(&grants, (&from, &to), piece, &|_| None, &mut mapper)
    };
    let (from, to) = (CopySide::Grant(&g.grants, 0), CopySide::Frame(own));
    assert_eq!(copy(from, to, (8, 4088)), Ok(()));
    let copied = SharedPage::new(own)
        .unwrap()
        .u64(4088)
        .unwrap()
        .load(SeqCst);
    assert_eq!(copied, 0x1234_5678);
    // Copies must not reach the hypervisor's frames, another domain's frames, or addresses outside RAM.
    let core = crate::mm::alloc::alloc_frame(Where::ANY).unwrap();
    for forbidden in [core, lent, Mfn(0), Mfn::INVALID, Mfn(u64::MAX >> 12)] {
        let (from, to) = (CopySide::Frame(own), CopySide::Frame(forbidden));
        assert_eq!(copy(from, to, (0, 0)), Err(GrantError::BadPage));
    }
    crate::mm::alloc::free(core, 0);
    u.end();
    g.end();
}
