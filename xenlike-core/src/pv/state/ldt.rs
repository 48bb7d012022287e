//! A vCPU's LDT: a linear range of the guest. A page of it is mapped in the vCPU's window, with a segment-descriptor type
//! reference, when the CPU first looks for a descriptor there. Pages leave the window when the guest sets another LDT, and
//! when any vCPU of the domain changes a mapping of a page of descriptors.

#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "loads the LDT register")
)]

use crate::kit::atomic::{AtomicU16, Ordering};

use guest_pv_abi::Width;

use super::State;
use super::window::{self, Window};
use crate::arch::paging::{DATA, pte};
use crate::kit::{DomId, Mfn, PAGE_SIZE, Vaddr, VcpuId};
use crate::pagetype::{Pte, machine};
#[cfg(target_os = "none")]
use crate::{
    arch::{desc, percpu},
    mm::layout,
};

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

/// The pages of a vCPU's LDT that its window maps, each with a segment-descriptor type reference. Any CPU may remove them:
/// an entry leaves the window by an exchange, and whoever gets the old entry from it drops the reference.
pub struct Pages {
    window: Window,
    /// Bit n is set if page n may be mapped. Set after the entry is written.
    mapped: AtomicU16,
}

impl Pages {
    /// Makes the set for `window`, with no page mapped.
    pub const fn new(window: Window) -> Self {
        Self {
            window,
            mapped: AtomicU16::new(0),
        }
    }

    fn has(&self, page: u16) -> bool {
        self.mapped.load(Ordering::Acquire) >> page & 1 != 0
    }

    /// Maps a frame. The caller's type reference goes to the window.
    fn put(&self, page: usize, frame: Mfn) {
        self.exchange(page, frame.maddr().0 | DATA);
        self.mapped
            .fetch_or(1_u16.wrapping_shl(page as u32), Ordering::AcqRel);
    }

    fn exchange(&self, page: usize, entry: u64) {
        let before = window::set(
            self.window,
            window::LDT_FIRST_PAGE.wrapping_add(page),
            entry,
        );
        if before & pte::P != 0 {
            machine().put_simple(Pte(before).mfn());
        }
    }

    /// Unmaps all pages. If this returns true, the caller flushes the TLB of the CPU that runs the vCPU.
    #[must_use]
    pub fn drop_all(&self) -> bool {
        if self.mapped.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mapped = self.mapped.swap(0, Ordering::AcqRel);
        for page in (0..window::LDT_PAGES).filter(|&page| mapped >> page & 1 != 0) {
            self.exchange(page, 0);
        }
        mapped != 0
    }
}

/// Maps the page of the LDT that contains byte `offset`. Returns false if the guest has no page there, or none that can
/// contain descriptors.
pub fn fill(owner: DomId, pages: &Pages, st: &State, offset: u64) -> bool {
    let page = (offset >> 12) as usize;
    let address = Vaddr(st.ldt.base.wrapping_add(offset) & !0xfff);
    let present = || {
        let entry = machine().lookup_under(st.kernel_root.as_ref()?, address)?;
        entry.is_present().then_some(entry.mfn())
    };
    for _ in 0..TRIES {
        let Some(taken) = present().and_then(|frame| machine().get_segdesc(frame, owner)) else {
            return false;
        };
        let frame = taken.keep();
        pages.put(page, frame);
        // Another vCPU may have changed the mapping, and emptied the window, before the page was put there. This look
        // comes after that, so either it sees the change, or the vCPU that makes it will find the page in the window.
        if present() == Some(frame) {
            return true;
        }
        pages.exchange(page, 0);
    }
    false
}

/// Maps the page of the LDT that contains the descriptor of `selector`, if the selector names an entry of the LDT. Called
/// before ring 0 loads the selector for the guest: a fault in that load would leave the null selector.
pub fn bring_in(owner: DomId, pages: &Pages, st: &State, selector: u16) {
    let (offset, page) = (u64::from(selector & !7), selector >> 12);
    let is_local = selector & LOCAL != 0 && u32::from(selector >> 3) < st.ldt.entries;
    if is_local && !pages.has(page) {
        // If the guest has no such page, the load faults, as it should.
        let _ = fill(owner, pages, st, offset);
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
