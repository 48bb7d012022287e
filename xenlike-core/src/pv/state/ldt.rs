//! A vCPU's LDT: a linear range of the guest. A page of it is mapped in the vCPU's window, with a segment-descriptor type
//! reference, when the CPU first looks for a descriptor there. Pages leave the window when the guest sets another LDT, and
//! when any vCPU of the domain changes a mapping of a page of descriptors.

#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "loads the LDT register")
)]

use guest_pv_abi::Width;

use super::State;
use crate::arch::percpu;
use crate::kit::{PAGE_SIZE, Vaddr, VcpuId};
use crate::pagetype::{DomainPages, machine, window};
#[cfg(target_os = "none")]
use crate::{arch::desc, mm::layout};

/// The most descriptors of an LDT: 8192.
pub const MAX_LDT_ENTRIES: u32 = (window::LDT_PAGES * PAGE_SIZE / 8) as u32;
/// The table indicator of a selector: it names an entry of the LDT.
const LOCAL: u16 = 4;
/// How often a page is mapped again because another vCPU changed the guest's mapping meanwhile.
const TRIES: u32 = 4;

/// An LDT as the guest set it.
#[derive(Clone, Copy, Default)]
pub struct GuestLdt {
    /// The linear address of the first descriptor.
    pub base: u64,
    /// The number of descriptors, up to [`MAX_LDT_ENTRIES`].
    pub entries: u32,
}

/// Maps the page of the LDT that contains byte `offset`. Returns false if the guest has no page there, or none that can
/// contain descriptors.
pub fn fill(pages: &DomainPages, vcpu: VcpuId, st: &State, offset: u64) -> bool {
    let Some(shown) = pages.ldt_pages(vcpu) else {
        return false;
    };
    let page = (offset >> 12) as usize;
    let address = Vaddr(st.ldt.base.wrapping_add(offset) & !0xfff);
    let present = || {
        let entry = machine().lookup_under(st.kernel_root.as_ref()?, address)?;
        entry.is_present().then_some(entry.mfn())
    };
    for _ in 0..TRIES {
        let Some(taken) = present().and_then(|frame| machine().get_segdesc(frame, pages.id()))
        else {
            return false;
        };
        let frame = taken.keep();
        shown.put(page, frame);
        // Another vCPU may have changed the mapping, and emptied the window, before the page was put there. This look
        // comes after that, so either it sees the change, or the vCPU that makes it will find the page in the window.
        if present() == Some(frame) {
            return true;
        }
        shown.exchange(page, 0);
    }
    false
}

/// Maps the page of the LDT that contains the descriptor of `selector`, if the selector names an entry of the LDT. Called
/// before ring 0 loads the selector for the guest: a fault in that load would leave the null selector.
pub fn bring_in(pages: &DomainPages, vcpu: VcpuId, st: &State, selector: u16) {
    let (offset, page) = (u64::from(selector & !7), selector >> 12);
    let is_local = selector & LOCAL != 0 && u32::from(selector >> 3) < st.ldt.entries;
    if is_local && !pages.ldt_pages(vcpu).is_some_and(|shown| shown.has(page)) {
        // If the guest has no such page, the load faults, as it should.
        let _ = fill(pages, vcpu, st, offset);
    }
}

/// Notes that this CPU may use the vCPU's LDT window from now on: before it loads the vCPU's address space, or while that
/// is loaded, before the first page is mapped there.
pub fn note_cpu(pages: &DomainPages, vcpu: VcpuId) {
    if let Some(shown) = pages.ldt_pages(vcpu) {
        shown.begins_on(percpu::this_cpu());
    }
}

/// Loads the LDT register of this CPU, which has the address space of `vcpu` loaded: with its LDT window of `entries`
/// descriptors, or with the null selector if there are none.
#[cfg(target_os = "none")]
pub fn load_register(vcpu: VcpuId, width: Width, entries: u32) {
    let Some(gdt) = desc::gdt(percpu::this_cpu(), width) else {
        return;
    };
    let selector = if entries == 0 {
        0
    } else {
        desc::set_ldt(gdt, layout::ldt_window(vcpu.0), entries);
        desc::LDT_SELECTOR
    };
    // SAFETY: the null selector, or the descriptor just written: an LDT in the vCPU's own window.
    unsafe { desc::load_ldt(selector) };
}

/// Does nothing on the host.
#[cfg(not(target_os = "none"))]
pub const fn load_register(_vcpu: VcpuId, _width: Width, _entries: u32) {}
