//! The LDT: a linear range of the guest's, whose pages are taken for descriptors when the machine
//! first looks at them, and dropped when the guest sets another LDT or when mappings of descriptor pages change, by
//! whichever vCPU.

#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "loads the LDT register")
)]

use crate::kit::atomic::{AtomicU16, Ordering};

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

/// Descriptors that an LDT may have: 8192.
pub const MAX_LDT_ENTRIES: u32 = (window::LDT_PAGES * PAGE_SIZE / 8) as u32;
/// In a selector: of the LDT.
const LOCAL: u16 = 4;
/// How often a page is taken that another vCPU maps elsewhere meanwhile.
const TRIES: u32 = 4;

/// The LDT as the guest set it: a linear range.
#[derive(Clone, Copy, Default)]
pub struct GuestLdt {
    /// Linear address of the first descriptor.
    pub base: u64,
    /// Number of descriptors, up to [`MAX_LDT_ENTRIES`].
    pub entries: u32,
}

/// The pages of a vCPU's LDT that its window maps, each with a segment-descriptor type reference. Any CPU may
/// empty it: who takes an entry out of the window gives the reference back.
pub struct Pages {
    window: Window,
    /// Bit n: page n may be mapped.
    mapped: AtomicU16,
}

impl Pages {
    /// None yet.
    pub const fn new(window: Window) -> Self {
        Self {
            window,
            mapped: AtomicU16::new(0),
        }
    }

    fn has(&self, page: u16) -> bool {
        self.mapped.load(Ordering::Acquire) >> page & 1 != 0
    }

    /// Maps a frame of which the caller gives a type reference.
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

    /// Lets go of all of them. When this returns true, the caller flushes the TLB of the CPU that runs the
    /// vCPU.
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

/// Maps the page of the LDT that holds byte `offset`; false if the guest has none there.
pub fn fill(owner: DomId, pages: &Pages, st: &State, offset: u64) -> bool {
    let page = (offset >> 12) as usize;
    let address = Vaddr(st.ldt.base.wrapping_add(offset) & !0xfff);
    let present = || {
        let entry = machine().lookup(st.kernel_l4()?, address)?;
        entry.is_present().then_some(entry.mfn())
    };
    for _ in 0..TRIES {
        let Some(taken) = present().and_then(|frame| machine().get_segdesc(frame, owner)) else {
            return false;
        };
        let frame = taken.keep();
        pages.put(page, frame);
        // Who changed the mapping before this look emptied the window before the page got into it, perhaps.
        if present() == Some(frame) {
            return true;
        }
        pages.exchange(page, 0);
    }
    false
}

/// Maps the page of the LDT that holds the descriptor of `selector`, if that is one of the LDT and the
/// guest has it: for a load of the selector by ring 0, whose fault would lose it.
pub fn bring_in(owner: DomId, pages: &Pages, st: &State, selector: u16) {
    let (offset, page) = (u64::from(selector & !7), selector >> 12);
    let is_local = selector & LOCAL != 0 && u32::from(selector >> 3) < st.ldt.entries;
    if is_local && !pages.has(page) {
        // What the guest doesn't have there faults in the load, as it should.
        let _ = fill(owner, pages, st, offset);
    }
}

/// Makes the LDT window of `vcpu`, whose address space is loaded, this CPU's LDT with `entries` descriptors; 0 for none.
#[cfg(target_os = "none")]
pub fn load_register(vcpu: VcpuId, entries: u32) {
    let Some(gdt) = desc::gdt(percpu::this_cpu()) else {
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

/// No CPU of the host has an LDT of ours.
#[cfg(not(target_os = "none"))]
pub const fn load_register(_vcpu: VcpuId, _entries: u32) {}
