//! Tests of the rules for the tables of narrow domains.

use std::sync::Arc;
use std::vec::Vec;

use guest_pv_abi::Width;

use super::fake::{Fake, store};
use super::tree::{ME, RO, RW};
use crate::kit::{DomId, Mfn, Vaddr};
use crate::mm::frame::State;
use crate::mm::layout;
use crate::pagetype::{
    Charge, DomainPages, EntryAt, Keep, Memory, PageType, Progress, Pte, Refused, Types, Update,
    Work,
};

/// Flags of a read-only mapping for the guest's kernel alone.
const KERNEL: u64 = Pte::PRESENT;
/// The first entry of the hypervisor in the L2 of the last GiB.
const OWN: usize = layout::NARROW_FIRST_SLOT;

/// A narrow domain with a root and an L2 for each of its entries, of which the last names an L1.
struct Narrow {
    types: Types<Fake>,
    pages: Arc<DomainPages>,
    root: Mfn,
    l2: [Mfn; 4],
    l1: Mfn,
    spare: Vec<Mfn>,
    work: Work,
}

fn narrow_domain(types: &Types<Fake>, id: DomId) -> Arc<DomainPages> {
    let pages = types.0.add_domain(id.0, 30);
    types.set_width(&pages, Width::Narrow).unwrap();
    pages
}

fn build() -> Narrow {
    let types = Fake::new(3);
    let pages = narrow_domain(&types, ME);
    let give = || types.give(&pages).unwrap();
    let (root, l2, l1) = (give(), [(); 4].map(|()| give()), give());
    let spare = (0..6).map(|_| give()).collect();
    for (index, l2) in l2.into_iter().enumerate() {
        types.set(root, index, Pte::new(l2, Pte::PRESENT));
    }
    types.set(l2[3], 0, Pte::new(l1, KERNEL | Pte::WRITABLE));
    Narrow {
        types,
        pages,
        root,
        l2,
        l1,
        spare,
        work: Work::new(),
    }
}

impl Narrow {
    fn pinned() -> Self {
        let mut t = build();
        assert_eq!(t.pin(t.root, 3), Ok(()));
        t.audit();
        t
    }
    fn pin(&mut self, mfn: Mfn, level: u32) -> Result<(), Refused> {
        self.types.pin(mfn, level, ME, &mut self.work)
    }
    fn update(&mut self, table: Mfn, index: usize, new: Pte) -> Result<(), Refused> {
        let update = Update {
            table,
            index,
            new,
            keep: Keep::Nothing,
            page_owner: ME,
        };
        self.types.change(ME, &update, &mut self.work)
    }
    fn is(&self, mfn: Mfn) -> PageType {
        PageType::from_bits(self.types.0.state(mfn).type_bits())
    }
    /// Whether the frame is not in use as anything.
    fn unused(&self, mfn: Mfn) -> bool {
        let state = self.types.0.state(mfn);
        state.type_refs() == 0 && state.refs() == 1
    }
    fn audit(&self) {
        self.types.audit(&[]).unwrap();
    }
}

#[test]
fn a_root_is_an_l3_of_four_entries() {
    let mut t = build();
    for index in [4, 5, 255, 256, 511] {
        t.types.set(t.root, index, Pte::new(t.l1, RW));
    }
    assert_eq!(t.pin(t.root, 3), Ok(()));
    assert_eq!(t.is(t.root), PageType::L3);
    let all = Pte::PRESENT | Pte::WRITABLE | Pte::USER;
    for index in 0..512 {
        let expected = t.l2.get(index).map_or(Pte(0), |l2| Pte::new(*l2, all));
        assert_eq!(t.types.get(t.root, index), expected, "entry {index}");
    }
    for index in [3, 4, 255, 256, 511] {
        let new = Pte::new(t.l2[0], Pte::PRESENT);
        assert_eq!(t.update(t.root, index, new), Err(Refused::Invalid));
        assert_eq!(t.update(t.root, index, Pte(0)), Err(Refused::Invalid));
    }
    assert_eq!(t.update(t.root, 0, Pte(0)), Ok(()));
    assert!(t.unused(t.l2[0]));
    t.audit();
}

#[test]
fn there_is_no_l4() {
    let mut t = build();
    let l4 = t.spare[0];
    assert_eq!(t.pin(l4, 4), Err(Refused::Invalid));
    t.types.set(l4, 0, Pte::new(t.root, RW));
    assert_eq!(t.pin(l4, 4), Err(Refused::Invalid));
    assert!(t.unused(l4) && t.unused(t.root));
    assert_eq!(
        t.types.get_root(l4, ME, &mut t.work).err(),
        Some(Refused::Invalid)
    );
    let root = t.types.get_root(t.root, ME, &mut t.work).unwrap();
    assert_eq!((root.width(), root.ty()), (Width::Narrow, PageType::L3));
    assert_eq!((root.wide(), root.mfn()), (None, t.root));
    t.types.audit(&[t.root]).unwrap();
    let _ = t.types.put_root(root, &mut t.work);
    assert!(t.unused(t.root) && t.l2.iter().all(|l2| t.unused(*l2)));
    t.audit();
}

#[test]
fn a_root_of_another_domain_is_none() {
    let mut t = Narrow::pinned();
    let stranger = t.types.0.add_domain(2, 10);
    let l4 = t.types.give(&stranger).unwrap();
    t.types.set(l4, 0, Pte::new(t.root, RW));
    let mut work = Work::new();
    let pinned = t.types.pin(l4, 4, DomId(2), &mut work);
    assert_eq!(pinned, Err(Refused::Invalid));
    let root = t.types.get_root(t.root, DomId(2), &mut work);
    assert_eq!(root.err(), Some(Refused::Invalid));
    let root = t.types.get_root(l4, ME, &mut t.work);
    assert_eq!(root.err(), Some(Refused::Invalid));
    t.audit();
}

#[test]
fn the_last_gib_has_an_l2() {
    let mut t = build();
    t.types.set(t.root, 3, Pte(0));
    assert_eq!(t.pin(t.root, 3), Err(Refused::Invalid));
    assert!(t.unused(t.root) && t.l2.iter().all(|l2| t.unused(*l2)));
    t.audit();
}

#[test]
fn the_hypervisors_entries_of_the_last_l2() {
    let mut t = build();
    let last = t.l2[3];
    // What the guest has there doesn't matter, not even a large page.
    t.types
        .set(last, OWN, Pte::new(t.spare[0], RW | Pte::PAT_OR_LARGE));
    t.types.set(last, 511, Pte::new(t.l1, RW));
    assert_eq!(t.pin(t.root, 3), Ok(()));
    assert_eq!(t.is(last), PageType::L2Last);
    for slot in OWN..512 {
        let own = t.types.0.own_slot(ME, PageType::L2Last, slot);
        assert_eq!(t.types.get(last, slot).0, own);
        assert_eq!(t.update(last, slot, Pte(0)), Err(Refused::Invalid));
        let new = Pte::new(t.l1, RW);
        assert_eq!(t.update(last, slot, new), Err(Refused::Invalid));
    }
    assert_eq!(t.update(last, OWN - 1, Pte::new(t.l1, RW)), Ok(()));
    // In the other L2s, all entries are the guest's.
    assert_eq!(t.update(t.l2[0], OWN, Pte::new(t.l1, RW)), Ok(()));
    assert_eq!(t.update(t.l2[0], 511, Pte::new(t.l1, RW)), Ok(()));
    t.audit();
}

#[test]
fn an_l2_is_for_the_last_gib_or_for_another() {
    let mut t = Narrow::pinned();
    let (first, last) = (t.l2[0], t.l2[3]);
    // As in the last entry, so in no other; nor as a pinned L2.
    let entry = |mfn| Pte::new(mfn, Pte::PRESENT);
    assert_eq!(t.update(t.root, 1, entry(last)), Err(Refused::Invalid));
    assert_eq!(t.pin(last, 2), Err(Refused::Invalid));
    // The other way round.
    let second = t.spare[0];
    for (index, l2) in [(0, first), (3, first)] {
        t.types.set(second, index, entry(l2));
    }
    assert_eq!(t.pin(second, 3), Err(Refused::Invalid));
    let pinned = t.spare[1];
    t.pin(pinned, 2).unwrap();
    t.types.set(second, 3, entry(pinned));
    assert_eq!(t.pin(second, 3), Err(Refused::Invalid));
    // Two roots may share the last L2, and the others.
    t.types.set(second, 3, entry(last));
    assert_eq!(t.pin(second, 3), Ok(()));
    t.audit();
    for root in [t.root, second] {
        t.types.unpin(root, ME, &mut t.work).unwrap();
    }
    assert!(t.unused(last) && t.unused(first));
    // Free again, it may be any table. The hypervisor's entries that it still has are the guest's then.
    assert_eq!(t.pin(last, 2), Err(Refused::Invalid));
    for slot in OWN..512 {
        t.types.set(last, slot, Pte(0));
    }
    assert_eq!(t.pin(last, 2), Ok(()));
    t.audit();
}

#[test]
fn one_table_is_not_both_within_one_root() {
    let mut t = build();
    t.types.set(t.root, 0, Pte::new(t.l2[3], Pte::PRESENT));
    assert_eq!(t.pin(t.root, 3), Err(Refused::Invalid));
    assert!(t.unused(t.root) && t.l2.iter().all(|l2| t.unused(*l2)));
    t.audit();
}

/// Stored entries of an L3 allow writes. If one of them named an L3, the guest would see the tables below as writable.
#[test]
fn no_entry_of_a_root_is_linear() {
    let mut t = Narrow::pinned();
    let (root, second) = (t.root, t.spare[0]);
    for linear in [Pte::new(root, Pte::PRESENT), Pte::new(root, RO)] {
        assert_eq!(t.update(root, 1, linear), Err(Refused::Invalid));
        t.types.set(second, 0, linear);
        t.types.set(second, 3, Pte::new(t.l2[3], Pte::PRESENT));
        assert_eq!(t.pin(second, 3), Err(Refused::Invalid));
    }
    t.types.set(second, 0, Pte::new(second, Pte::PRESENT));
    assert_eq!(t.pin(second, 3), Err(Refused::Invalid));
    assert!(t.unused(second));
    t.audit();
}

/// A PAE kernel sees its tables through four entries of its last L2, which name the L2s.
#[test]
fn a_window_onto_the_tables() {
    let mut t = Narrow::pinned();
    let last = t.l2[3];
    for (index, l2) in t.l2.into_iter().enumerate() {
        let writable = Pte::new(l2, KERNEL | Pte::WRITABLE);
        assert_eq!(t.update(last, 420 + index, writable), Err(Refused::Invalid));
        assert_eq!(t.update(last, 420 + index, Pte::new(l2, KERNEL)), Ok(()));
    }
    t.audit();
    // The other L2s can't name the last one, because it names them.
    let back = Pte::new(last, KERNEL);
    assert_eq!(t.update(t.l2[0], 9, back), Err(Refused::Invalid));
    (420..424).for_each(|index| t.update(last, index, Pte(0)).unwrap());
    assert_eq!(t.update(t.l2[0], 9, back), Ok(()));
    t.audit();
    t.types.unpin(t.root, ME, &mut t.work).unwrap();
    while t.types.finish(&mut t.work) == Progress::Again {}
    assert!(t.l2.iter().all(|l2| t.unused(*l2)));
    t.audit();
}

#[test]
fn a_window_is_validated_with_its_tables() {
    let mut t = build();
    for (index, l2) in t.l2.into_iter().enumerate() {
        t.types.set(t.l2[3], 420 + index, Pte::new(l2, KERNEL));
    }
    // The root's entries are validated in order, so the other L2s are validated when the last one names them.
    assert_eq!(t.pin(t.root, 3), Ok(()));
    t.audit();
    t.pages.set_dying();
    while t.types.relinquish(&t.pages, &mut t.work) == Progress::Again {}
    assert!(t.pages.is_empty());
}

#[test]
fn only_the_guest_decides_about_user_mappings() {
    let mut t = Narrow::pinned();
    let (l1, data) = (t.l1, t.spare[0]);
    for asked in [KERNEL, KERNEL | Pte::WRITABLE, RO, RW, RW | Pte::NX] {
        for global in [0, Pte::GLOBAL] {
            assert_eq!(t.update(l1, 7, Pte::new(data, asked | global)), Ok(()));
            assert_eq!(t.types.get(l1, 7), Pte::new(data, asked));
        }
        t.update(t.l2[0], 7, Pte::new(l1, asked)).unwrap();
        assert_eq!(t.types.get(t.l2[0], 7), Pte::new(l1, asked));
    }
    t.types.set(t.spare[1], 5, Pte::new(data, KERNEL));
    t.types.set(t.spare[1], 6, Pte::new(data, RO | Pte::GLOBAL));
    assert_eq!(t.pin(t.spare[1], 1), Ok(()));
    let stored = [5, 6].map(|index| t.types.get(t.spare[1], index).0 & 0xfff);
    assert_eq!(stored, [KERNEL, RO]);
    t.audit();
}

#[test]
fn grants_are_mapped_for_the_kernel() {
    let mut t = Narrow::pinned();
    let granter = t.types.0.add_domain(0, 10);
    let lent = t.types.give(&granter).unwrap();
    let at = EntryAt {
        table: t.l1,
        index: 9,
    };
    let pte = Pte::new(lent, KERNEL | Pte::MACHINE_SET);
    assert!(t.types.take_usual(pte, DomId(0)).is_some());
    assert_eq!(
        t.types.map_grant(Width::Narrow, ME, at, pte, &mut t.work),
        Ok(())
    );
    assert_eq!(t.types.get(t.l1, 9), pte);
    t.audit();
}

#[test]
fn flags_of_a_root() {
    let mut t = Narrow::pinned();
    for bad in [
        Pte::PWT,
        Pte::PCD,
        Pte::PAT_OR_LARGE,
        Pte::GLOBAL,
        Pte::NX,
        1 << 52,
    ] {
        let entry = Pte::new(t.l2[0], Pte::PRESENT | bad);
        assert_eq!(
            t.update(t.root, 0, entry),
            Err(Refused::Invalid),
            "{bad:#x}"
        );
        t.types.set(t.spare[0], 0, entry);
        t.types.set(t.spare[0], 3, Pte::new(t.l2[3], Pte::PRESENT));
        assert_eq!(t.pin(t.spare[0], 3), Err(Refused::Invalid), "{bad:#x}");
    }
    let entry = Pte::new(t.l2[0], RW | Pte::MACHINE_SET | 7 << 9);
    assert_eq!(t.update(t.root, 0, entry), Ok(()));
    assert_eq!(t.types.get(t.root, 0), entry);
    t.audit();
}

#[test]
fn entries_written_in_two_halves() {
    let mut t = Narrow::pinned();
    let (l1, data) = (t.l1, t.spare[0]);
    let entry = Pte::new(data, KERNEL | Pte::WRITABLE | Pte::NX).0;
    // As kernels do: the high half while the entry is not present, then the low half; to clear, the low half first.
    for (offset, value, expected) in [
        (8 * 5 + 4, entry >> 32, entry >> 32 << 32),
        (8 * 5, entry & 0xffff_ffff, entry),
        (8 * 5, 0, entry >> 32 << 32),
        (8 * 5 + 4, 0, 0),
    ] {
        assert!(store(&t.types, ME, l1, offset, 4, value).is_ok());
        assert_eq!(t.types.get(l1, 5).0, expected);
        t.audit();
    }
    // The high half alone may turn an entry to another frame, which must be allowed as well.
    t.update(l1, 5, Pte(entry)).unwrap();
    assert!(store(&t.types, ME, l1, 8 * 5 + 4, 4, 0x7).is_err());
    assert_eq!(t.types.get(l1, 5).0, entry);
    t.audit();
}

#[test]
fn walks_end_at_the_hypervisors_range() {
    let mut t = Narrow::pinned();
    let entry = |va| t.types.l1_of(t.root, Vaddr(va));
    assert_eq!(entry(0xc000_5000), Some((t.l1, 5)));
    assert_eq!(entry(0xc020_0000), None);
    for va in [
        0x1_c000_5000,
        0xffff_ffff_c000_5000,
        0x8000_c000_5000,
        1 << 47,
    ] {
        assert_eq!(entry(va), None, "{va:#x}");
    }
    for va in [
        layout::NARROW_START,
        layout::NARROW_M2P_END - 8,
        0xffff_f000,
    ] {
        assert_eq!(entry(va), None, "{va:#x}");
    }
    let below = Pte::new(t.l1, RW);
    t.update(t.l2[3], OWN - 1, below).unwrap();
    let va = Vaddr(layout::NARROW_START - 0x1000);
    assert_eq!(t.types.l1_of(t.root, va), Some((t.l1, 511)));
}

#[test]
fn the_width_is_set_before_there_are_frames() {
    let types = Fake::new(3);
    let pages = types.0.add_domain(1, 10);
    let shared = types.0.take().unwrap();
    types.share(&pages, shared);
    assert_eq!(types.set_width(&pages, Width::Narrow), Ok(()));
    types.audit(&[shared]).unwrap();
    assert_eq!(types.set_width(&pages, Width::Wide), Ok(()));
    types.audit(&[shared]).unwrap();
    assert_eq!(types.set_width(&pages, Width::Narrow), Ok(()));
    let mfn = types.give(&pages).unwrap();
    assert_eq!(types.set_width(&pages, Width::Narrow), Ok(()));
    assert_eq!(types.set_width(&pages, Width::Wide), Err(Refused::Busy));
    // A frame that goes to another domain takes that domain's width.
    assert!(types.0.state(mfn).has(State::NARROW));
    let wide = types.0.add_domain(2, 10);
    types.steal(&pages, mfn, Charge::Counted).unwrap();
    types.assign(&wide, mfn, 0, Charge::Counted).unwrap();
    assert!(!types.0.state(mfn).has(State::NARROW));
    types.audit(&[shared]).unwrap();
}

#[test]
fn preemption_between_any_two_entries() {
    let mut t = build();
    for (index, l2) in t.l2.into_iter().enumerate() {
        t.types.set(t.l2[3], 420 + index, Pte::new(l2, KERNEL));
        t.types.set(l2, 3, Pte::new(t.l1, RW));
    }
    let rate = &t.types.0.preempt_rate;
    rate.store(256, crate::kit::atomic::Ordering::Relaxed);
    let mut tries = 0;
    loop {
        let pinned = t.types.pin(t.root, 3, ME, &mut t.work);
        t.types.audit(&[]).unwrap();
        match pinned {
            Err(Refused::Again) => tries += 1,
            done => break assert_eq!(done, Ok(())),
        }
    }
    assert!(tries > 3, "{tries}");
    t.types.unpin(t.root, ME, &mut t.work).unwrap();
    while t.types.finish(&mut t.work) == Progress::Again {
        t.types.audit(&[]).unwrap();
    }
    assert!(t.unused(t.root) && t.l2.iter().all(|l2| t.unused(*l2)));
}
