//! Switching address spaces: to a guest's tables, which the frame table says are fit for it, or to
//! the core's own.
#![expect(unsafe_code, reason = "loads CR3 and the LDT register")]

use super::frame::{State, frames};
use super::layout;
use crate::arch::cr3;
use crate::kit::Mfn;

/// The type number of a validated L4 in the frame table.
const L4: u64 = 4;

/// The frame is not a validated L4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAnL4;

/// Runs this CPU on the tables under `l4`. The caller holds a type reference of it.
pub fn load(l4: Mfn) -> Result<(), NotAnL4> {
    let state = frames().get(l4).ok_or(NotAnL4)?.load();
    if state.type_bits() != L4 || !state.has(State::VALIDATED) || state.type_refs() == 0 {
        return Err(NotAnL4);
    }
    // SAFETY: a validated L4 holds the core's slots, and the reference keeps it one.
    unsafe { cr3::load(l4) };
    Ok(())
}

/// Runs this CPU on the core's own tables, which map no guest.
pub fn load_master() {
    if let Some(&master) = layout::MASTER.get() {
        // SAFETY: the master maps all of the core and is never freed.
        unsafe { cr3::load(master) };
    }
}

/// Makes the LDT window of vCPU number `vcpu`, whose address space is loaded, this CPU's LDT with
/// `entries` descriptors; 0 for none.
#[cfg(target_os = "none")]
pub fn load_ldt(vcpu: u32, entries: u32) {
    use crate::arch::{desc, percpu};
    let Some(gdt) = desc::gdt(percpu::this_cpu()) else {
        return;
    };
    desc::set_ldt(gdt, layout::ldt_window(vcpu), entries);
    let selector = if entries == 0 { 0 } else { desc::LDT_SELECTOR };
    // SAFETY: the null selector, or the descriptor just written: an LDT in the vCPU's own window.
    unsafe { desc::load_ldt(selector) };
}

/// No CPU of the host has an LDT of ours.
#[cfg(not(target_os = "none"))]
pub fn load_ldt(_vcpu: u32, _entries: u32) {}
