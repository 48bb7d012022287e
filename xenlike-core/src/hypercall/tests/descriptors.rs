//! update_descriptor, which names descriptors by machine address.

use crate::kit::atomic::Ordering::SeqCst;

use guest_pv_abi::errno;
use guest_pv_abi::hypercall as nr;

use guest_pv_abi::grant_table::*;
use zerocopy::FromZeros;

use super::guest::Guest;
use crate::kit::{Mfn, Vaddr, VcpuId};
use crate::mm::SharedPage;
use crate::pagetype::{EntryAt, GuestRoot, Pte, Work, machine};
use crate::pv::state::ldt::{self, GuestLdt};

/// The flat code segments of a kernel and of a user process.
const KERNEL_CODE: u64 = 0x00af_9b00_0000_ffff;
const USER_CODE: u64 = 0x00af_fb00_0000_ffff;
/// A present call gate, which guests may not have.
const GATE: u64 = 0x0000_8c00_0000_0000;

/// A page that is not a descriptor table is data: only the named word changes.
#[test]
fn only_the_word_that_is_named_changes() {
    let guest = Guest::new();
    let frame = guest.frame();
    let page = SharedPage::new(frame).unwrap();
    let word = |n: usize| page.u64(n * 8).unwrap();
    word(5).store(KERNEL_CODE, SeqCst);
    let update = |n: u64, descriptor| {
        guest.call(
            nr::UPDATE_DESCRIPTOR,
            &[frame.maddr().0 + n * 8, descriptor],
        )
    };
    update(3, KERNEL_CODE).unwrap();
    assert_eq!(word(3).load(SeqCst), USER_CODE);
    assert_eq!(word(5).load(SeqCst), KERNEL_CODE);
    assert_eq!(update(3, GATE), Err(errno::EINVAL));
    // While it is in use as a descriptor table, every word of the page is checked as a descriptor.
    let table = machine().get_segdesc(frame, guest.dom.id()).unwrap();
    assert_eq!(word(5).load(SeqCst), USER_CODE);
    update(6, KERNEL_CODE).unwrap();
    assert_eq!(word(6).load(SeqCst), USER_CODE);
    drop(table);
}

/// The LDT's only page is mapped by entry 5 of an L1, and in the vCPU's LDT window.
struct WithLdt {
    guest: Guest,
    l1: Mfn,
}

const LDT: u64 = 0x5000;

impl WithLdt {
    fn new() -> Self {
        let guest = Guest::new();
        let tables = [(); 5].map(|()| guest.frame());
        let link = |table: Mfn, index: usize, to: Mfn, flags: u64| {
            let page = SharedPage::new(table).unwrap();
            let entry = Pte::new(to, Pte::PRESENT | Pte::USER | flags);
            page.u64(index * 8).unwrap().store(entry.0, SeqCst);
        };
        for pair in tables[1..].windows(2) {
            link(pair[1], 0, pair[0], Pte::WRITABLE);
        }
        link(tables[1], 5, tables[0], 0);
        let id = guest.dom.id();
        machine().pin(tables[4], 4, id, &mut Work::new()).unwrap();
        let vcpu = &guest.dom.vcpus()[0];
        let mut state = vcpu.descheduled().unwrap();
        state.pv_mut().kernel_root = Some(GuestRoot::of_pinned(tables[4]));
        state.pv_mut().ldt = GuestLdt {
            base: LDT,
            entries: 512,
        };
        assert!(ldt::fill(&guest.dom.pages, vcpu.id, state.pv(), 0));
        drop(state);
        let l1 = tables[1];
        Self { guest, l1 }
    }

    /// Whether the window is empty.
    fn is_dropped(&self) -> bool {
        !self.guest.dom.pages.drop_ldt_pages_of(VcpuId(0))
    }
}

impl Drop for WithLdt {
    fn drop(&mut self) {
        let mut state = self.guest.dom.vcpus()[0].descheduled().unwrap();
        state.pv_mut().kernel_root = None;
    }
}

#[test]
fn a_store_that_unmaps_the_ldt_empties_its_window() {
    let with = WithLdt::new();
    let place = EntryAt {
        table: with.l1,
        index: 5,
    };
    let old = machine().read_entry(with.l1, 5).unwrap();
    let found = machine().exchange_l1_entry(with.guest.dom.id(), place, old, Pte(0));
    assert_eq!(found, Ok(old));
    assert!(with.is_dropped());
}

#[test]
fn a_grant_that_is_mapped_over_the_ldt_empties_its_window() {
    let (granter, with) = (Guest::new(), WithLdt::new());
    let guest = &with.guest;
    let mut setup = GnttabSetupTable::new_zeroed();
    (setup.dom, setup.nr_frames) = (0x7ff0, 1);
    setup.frame_list = guest_pv_abi::GuestHandle(granter.at + 0x800);
    granter
        .with(nr::GRANT_TABLE_OP, GNTTABOP_SETUP_TABLE, &mut setup)
        .unwrap();
    let table = SharedPage::new(Mfn(granter.read(granter.at + 0x800))).unwrap();
    let frame = granter.frame();
    table.u32(4).unwrap().store(frame.0 as u32, SeqCst);
    let word = u32::from(GTF_PERMIT_ACCESS) | u32::from(guest.id()) << 16;
    table.u32(0).unwrap().store(word, SeqCst);
    let mut map = GnttabMapGrantRef::new_zeroed();
    (map.dom, map.flags, map.host_addr) = (granter.id(), GNTMAP_HOST_MAP, Vaddr(LDT).0);
    guest
        .with(nr::GRANT_TABLE_OP, GNTTABOP_MAP_GRANT_REF, &mut map)
        .unwrap();
    assert_eq!(map.status, GNTST_OKAY);
    assert!(with.is_dropped());
}
