//! The LDT: a linear range of the guest's, whose pages are taken for descriptors when the machine
//! first looks at them, and dropped when the guest sets another LDT or its mappings change.

use super::{Domain, VcpuState, window};
use crate::arch::paging::{DATA, pte};
use crate::kit::Vaddr;
use crate::pagetype::{Pte, machine};

/// In a selector: of the LDT.
const LOCAL: u16 = 4;

/// Maps the page of the LDT that holds byte `offset`; false if the guest has none there.
pub fn fill(dom: &Domain, st: &mut VcpuState, offset: u64) -> bool {
    let page = (offset >> 12) as usize;
    let address = Vaddr(st.ldt.base.wrapping_add(offset) & !0xfff);
    let Some(l4) = st.kernel_l4() else {
        return false;
    };
    let Some(Pte(entry)) = machine().lookup(l4, address) else {
        return false;
    };
    if entry & pte::P == 0 {
        return false;
    }
    let Some(taken) = machine().get_segdesc(Pte(entry).mfn(), dom.id()) else {
        return false;
    };
    let own = taken.mfn().maddr().0 | DATA;
    let before = window::set(st.window, window::LDT_FIRST_PAGE.wrapping_add(page), own);
    taken.keep();
    if before & pte::P != 0 {
        // Filled twice: the reference of the first time is given back.
        machine().put_simple(Pte(before).mfn());
    }
    st.ldt_mapped |= 1_u16.wrapping_shl(page as u32);
    true
}

/// Maps the page of the LDT that holds the descriptor of `selector`, if that is one of the LDT and the
/// guest has it: for a load of the selector by ring 0, whose fault would lose it.
pub fn bring_in(dom: &Domain, st: &mut VcpuState, selector: u16) {
    let (offset, page) = (u64::from(selector & !7), selector >> 12);
    let is_local = selector & LOCAL != 0 && u32::from(selector >> 3) < st.ldt.entries;
    if is_local && st.ldt_mapped >> page & 1 == 0 {
        // What the guest doesn't have there faults in the load, as it should.
        let _ = fill(dom, st, offset);
    }
}

/// Lets go of all pages of the LDT. The caller flushes this CPU's TLB when this returns true.
#[must_use]
pub fn drop_pages(st: &mut VcpuState) -> bool {
    if st.ldt_mapped == 0 {
        return false;
    }
    let mapped = core::mem::take(&mut st.ldt_mapped);
    for page in (0..window::LDT_PAGES).filter(|&page| mapped >> page & 1 != 0) {
        let before = window::set(st.window, window::LDT_FIRST_PAGE.wrapping_add(page), 0);
        if before & pte::P != 0 {
            machine().put_simple(Pte(before).mfn());
        }
    }
    true
}
