//! Emulates accesses to control, debug and extended control registers.

use super::decode::Insn;
use super::privileged::{Step, whole_register};
use super::{Denied, Guest, Outcome, Owner};
use crate::arch::cr::{cr0, cr4};
use crate::arch::xstate::is_valid_xcr0;

/// The control and debug registers of a vCPU, and the caches.
pub trait Control: Guest + Owner {
    /// Returns CR0 as the guest sees it: the bits that all PV guests see, and the guest's own TS.
    fn cr0(&self) -> u64;
    /// Sets CR0, of which only TS may differ from the present value.
    fn set_cr0(&mut self, value: u64);
    /// Returns CR2 as the guest sees it.
    fn cr2(&self) -> u64;
    /// Sets CR2 as the guest sees it, also in its vcpu_info.
    fn set_cr2(&mut self, value: u64);
    /// CR3 as the guest sees it: the root of its kernel.
    fn cr3(&self) -> u64;
    /// Flushes the TLB if the value is the present one. Another value is denied, as MMUEXT_NEW_BASEPTR sets it.
    fn set_cr3(&mut self, value: u64) -> Result<(), Denied>;
    /// Returns CR4 as the guest sees it.
    fn cr4(&self) -> u64;
    /// Returns the CR4 that the core itself uses.
    fn machine_cr4(&self) -> u64;
    /// Sets the guest's CR4, after [`crate::cpuid::Policy::guest_cr4`] has removed bits that it may not set.
    fn set_cr4(&mut self, value: u64);
    /// Sets XCR0 to a value that has been validated.
    fn set_xcr0(&mut self, value: u64);
    /// A debug register, as get_debugreg reads it.
    fn debug_register(&self, number: u8) -> Option<u64>;
    /// Sets a debug register, as set_debugreg does.
    fn set_debug_register(&mut self, number: u8, value: u64) -> Result<(), Denied>;
    /// Writes back and invalidates the caches if the domain has I/O memory or is the hardware domain.
    /// Otherwise does nothing.
    fn flush_caches(&mut self);
}

pub(super) fn clts(guest: &mut impl Control) -> Step {
    guest.set_cr0(guest.cr0() & !cr0::TS);
    Step::Retire
}

pub(super) fn xsetbv(guest: &mut impl Control) -> Step {
    let allowed = guest.policy().xcr0_mask();
    let enabled = guest.cr4() & cr4::OSXSAVE != 0;
    let frame = guest.frame();
    let value = frame.rdx << 32 | frame.rax & 0xffff_ffff;
    if !enabled {
        return Step::Ends(Outcome::Fault(super::Exception::InvalidOpcode));
    }
    if frame.rcx as u32 != 0 || !is_valid_xcr0(value, allowed) {
        return Step::GENERAL_PROTECTION;
    }
    guest.set_xcr0(value);
    Step::Retire
}

pub(super) fn read_cr(guest: &mut impl Control, insn: &Insn) -> Step {
    let value = match insn.reg {
        0 => guest.cr0(),
        2 => guest.cr2(),
        3 => guest.cr3(),
        4 => guest.cr4(),
        _ => return Step::NOT_OURS,
    };
    match whole_register(guest, insn) {
        Some(register) => {
            *register = value;
            Step::Retire
        }
        None => Step::NOT_OURS,
    }
}

pub(super) fn write_cr(guest: &mut impl Control, insn: &Insn) -> Step {
    let Some(&mut value) = whole_register(guest, insn) else {
        return Step::NOT_OURS;
    };
    match insn.reg {
        0 => {
            if (value ^ guest.cr0()) & !cr0::TS != 0 {
                return Step::NOT_OURS;
            }
            guest.set_cr0(value);
            Step::Retire
        }
        2 => {
            guest.set_cr2(value);
            Step::Retire
        }
        3 => done(guest.set_cr3(value)),
        4 => {
            let value = guest.policy().guest_cr4(guest.machine_cr4(), value);
            guest.set_cr4(value);
            Step::Retire
        }
        _ => Step::NOT_OURS,
    }
}

pub(super) fn read_dr(guest: &mut impl Control, insn: &Insn) -> Step {
    let Some(value) = guest.debug_register(insn.reg) else {
        return Step::NOT_OURS;
    };
    match whole_register(guest, insn) {
        Some(register) => {
            *register = value;
            Step::Retire
        }
        None => Step::NOT_OURS,
    }
}

pub(super) fn write_dr(guest: &mut impl Control, insn: &Insn) -> Step {
    let Some(&mut value) = whole_register(guest, insn) else {
        return Step::NOT_OURS;
    };
    done(guest.set_debug_register(insn.reg, value))
}

fn done(result: Result<(), Denied>) -> Step {
    match result {
        Ok(()) => Step::Retire,
        Err(Denied) => Step::NOT_OURS,
    }
}
