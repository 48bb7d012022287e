//! Control, debug and extended control registers.

use super::decode::Insn;
use super::privileged::{Step, whole_register};
use super::{Denied, Guest, Outcome, TaskSwitched};

/// CR0.TS.
pub const CR0_TS: u64 = 1 << 3;
/// CR4.TSD: RDTSC for the kernel alone.
pub const CR4_TSD: u64 = 1 << 2;
/// CR4.DE: debugging extensions.
pub const CR4_DE: u64 = 1 << 3;
/// CR4.FSGSBASE.
pub const CR4_FSGSBASE: u64 = 1 << 16;
/// CR4.OSXSAVE.
pub const CR4_OSXSAVE: u64 = 1 << 18;

/// Whether XCR0 may have this value (SDM vol. 1 §13.3): `allowed` are the states of the policy.
pub fn xcr0_is_valid(value: u64, allowed: u64) -> bool {
    const X87: u64 = 1;
    const SSE: u64 = 1 << 1;
    const AVX: u64 = 1 << 2;
    const BOUNDS: u64 = 3 << 3;
    const AVX512: u64 = 7 << 5;
    value & !allowed == 0
        && value & X87 != 0
        && (value & AVX == 0 || value & SSE != 0)
        && (value & AVX512 == 0 || (value & AVX512 == AVX512 && value & AVX != 0))
        && (value & BOUNDS == 0 || value & BOUNDS == BOUNDS)
}

pub(super) fn clts(guest: &mut impl Guest) -> Step {
    guest.set_task_switched(TaskSwitched::Clear);
    Step::Retire
}

pub(super) fn xsetbv(guest: &mut impl Guest) -> Step {
    let allowed = guest.policy().xcr0_mask();
    let enabled = guest.cr4() & CR4_OSXSAVE != 0;
    let frame = guest.frame();
    let value = frame.rdx << 32 | frame.rax & 0xffff_ffff;
    if !enabled {
        return Step::Ends(Outcome::Fault(super::Exception::InvalidOpcode));
    }
    if frame.rcx as u32 != 0 || !xcr0_is_valid(value, allowed) {
        return Step::GENERAL_PROTECTION;
    }
    guest.set_xcr0(value);
    Step::Retire
}

pub(super) fn read_cr(guest: &mut impl Guest, insn: &Insn) -> Step {
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

pub(super) fn write_cr(guest: &mut impl Guest, insn: &Insn) -> Step {
    let Some(&mut value) = whole_register(guest, insn) else {
        return Step::NOT_OURS;
    };
    match insn.reg {
        0 => {
            if (value ^ guest.cr0()) & !CR0_TS != 0 {
                return Step::NOT_OURS;
            }
            let ts = if value & CR0_TS != 0 {
                TaskSwitched::Set
            } else {
                TaskSwitched::Clear
            };
            guest.set_task_switched(ts);
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

pub(super) fn read_dr(guest: &mut impl Guest, insn: &Insn) -> Step {
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

pub(super) fn write_dr(guest: &mut impl Guest, insn: &Insn) -> Step {
    let Some(&mut value) = whole_register(guest, insn) else {
        return Step::NOT_OURS;
    };
    done(guest.set_debug_register(insn.reg, value))
}

fn done(result: Result<(), Denied>) -> Step {
    match result {
        Ok(()) => Step::Retire,
        Err(Denied::Again) => Step::Ends(Outcome::Again),
        Err(Denied::Refused) => Step::NOT_OURS,
    }
}
