//! Privileged instructions, which trap with #GP, and CPUID after the forced-emulation prefix.

use super::control::{self, Control};
use super::decode::{self, Insn, Rm, decode};
use super::instruction::{fetch, retire};
use super::io::{self, Io};
use super::msr::{self, Msrs};
use super::operand::{self, mask};
use super::{Bits, Exception, Guest, Mode, Outcome, Segment, SegmentName};
use crate::arch::cr::cr4;
use crate::cpuid::Leaf;
use crate::cpuid::guest::Asked;
use crate::kit::Vaddr;

/// The forced-emulation prefix, which is UD2 and the bytes "xen", and the one instruction that may follow it (XEN_CPUID in
/// `arch-x86/xen.h`).
const FORCED_CPUID: [u8; 7] = [0x0f, 0x0b, b'x', b'e', b'n', 0x0f, 0xa2];
/// The opcode of CPUID.
const CPUID: u16 = 0x0fa2;
/// A bit of MISC_FEATURES_ENABLES: CPUID faults in user mode.
const CPUID_FAULTING: u64 = 1 << 0;

/// CPUID, as a vCPU sees it.
pub trait Cpuid {
    /// Returns the leaf as the vCPU sees it.
    fn cpuid(&mut self, leaf: u32, subleaf: u32, asked: Asked) -> Leaf;
}

/// All traits that the emulation of an instruction may need.
pub trait Instructions: Control + Msrs + Io + Cpuid {}

impl<G: Control + Msrs + Io + Cpuid> Instructions for G {}

/// The outcome of the part that is specific to an instruction.
pub(super) enum Step {
    /// The instruction is complete; the common part advances RIP.
    Retire,
    /// The emulation ends with this outcome, without a common part.
    Ends(Outcome),
}

impl Step {
    pub(super) const GENERAL_PROTECTION: Self =
        Self::Ends(Outcome::Fault(Exception::GeneralProtection));
    pub(super) const NOT_OURS: Self = Self::Ends(Outcome::NotOurs);
}

/// Emulates the instruction at a guest's RIP, which raised #GP with error code 0.
pub fn general_protection(guest: &mut impl Instructions) -> Outcome {
    let Some(code) = guest.segment(SegmentName::Cs) else {
        return Outcome::NotOurs;
    };
    let Some(insn) = fetch_insn(guest, &code) else {
        return Outcome::NotOurs;
    };
    if insn.lock {
        return Outcome::NotOurs;
    }
    match step(guest, &insn) {
        Step::Retire => retire(guest.frame(), insn.length, code.bits),
        Step::Ends(outcome) => outcome,
    }
}

/// Whether an instruction with these first four bytes may begin with the forced-emulation prefix.
#[inline]
pub const fn asks_to_be_emulated(bytes: u32) -> bool {
    let [a, b, c, d, ..] = FORCED_CPUID;
    bytes == u32::from_le_bytes([a, b, c, d])
}

/// Whether it is CPUID after the prefix, by the four bytes from its fourth one on.
#[inline]
pub const fn is_forced_cpuid(bytes: u32) -> bool {
    let [.., d, e, f, g] = FORCED_CPUID;
    bytes == u32::from_le_bytes([d, e, f, g])
}

/// Emulates the instruction at a guest's RIP, which raised #UD.
pub fn invalid_opcode(guest: &mut (impl Msrs + Cpuid)) -> Outcome {
    let Some(code) = guest.segment(SegmentName::Cs) else {
        return Outcome::NotOurs;
    };
    let rip = guest.frame().rip;
    let mut bytes = [0; FORCED_CPUID.len()];
    let at = Vaddr(code.base.wrapping_add(rip));
    if guest.read(at, &mut bytes).is_err() || bytes != FORCED_CPUID {
        return Outcome::NotOurs;
    }
    forced_cpuid(guest, code.bits)
}

/// Emulates CPUID after the prefix, at RIP in code of this width.
#[inline(always)] // its only hot caller has no other work
pub fn forced_cpuid(guest: &mut (impl Msrs + Cpuid), code: Bits) -> Outcome {
    let asked = match guest.mode() {
        Mode::Kernel => Asked::ByForce,
        Mode::User => Asked::User,
    };
    match cpuid(guest, asked) {
        Step::Retire => retire(guest.frame(), FORCED_CPUID.len() as u8, code),
        Step::Ends(outcome) => outcome,
    }
}

fn fetch_insn(guest: &mut impl Guest, code: &Segment) -> Option<Insn> {
    let rip = guest.frame().rip;
    if code.bits != Bits::SixtyFour && rip > u64::from(code.limit) {
        return None;
    }
    let mut bytes = [0; decode::MAX_BYTES];
    let bytes = fetch(guest, Vaddr(code.base.wrapping_add(rip)), &mut bytes)?;
    decode(bytes, code.bits).ok()
}

/// Ends an instruction that hit I/O breakpoints, given as bits of DR6.
#[cold]
#[inline(never)] // off the path of accesses without breakpoints
pub(super) fn retire_with_hits(guest: &mut impl Guest, insn: &Insn, hits: u64) -> Step {
    let Some(code) = guest.segment(SegmentName::Cs) else {
        return Step::NOT_OURS;
    };
    Step::Ends(match retire(guest.frame(), insn.length, code.bits) {
        Outcome::Debug(step) => Outcome::Debug(hits | step),
        _ => Outcome::Debug(hits),
    })
}

fn step(guest: &mut impl Instructions, insn: &Insn) -> Step {
    match (insn.opcode, guest.mode()) {
        (0x6c..=0x6f, _) => io::string(guest, insn),
        (0xe4..=0xe7 | 0xec..=0xef, _) => io::single(guest, insn),
        // If the virtual IOPL permits them, CLI and STI do nothing: the event mask is in shared memory.
        (0xfa | 0xfb, _) if guest.iopl_suffices() => Step::Retire,
        (0x0f31, _) => rdtsc(guest),
        (0x0f01, _) if is_0f01(insn, 7) => rdtscp(guest),
        (CPUID, mode) => faulted_cpuid(guest, mode),
        (opcode, Mode::Kernel) => kernel_step(guest, insn, opcode),
        _ => Step::NOT_OURS,
    }
}

fn kernel_step(guest: &mut impl Instructions, insn: &Insn, opcode: u16) -> Step {
    match opcode {
        0xf4 => halt(guest, insn),
        0x0f01 if is_0f01(insn, 2) => control::xsetbv(guest),
        0x0f06 => control::clts(guest),
        0x0f09 => {
            guest.flush_caches();
            Step::Retire
        }
        0x0f20 => control::read_cr(guest, insn),
        0x0f21 => control::read_dr(guest, insn),
        0x0f22 => control::write_cr(guest, insn),
        0x0f23 => control::write_dr(guest, insn),
        0x0f30 => msr::wrmsr(guest),
        0x0f32 => msr::rdmsr(guest),
        _ => Step::NOT_OURS,
    }
}

/// Whether the instruction is 0F 01 with register operand 1 and opcode extension `reg`: XSETBV (2)
/// or RDTSCP (7).
fn is_0f01(insn: &Insn, reg: u8) -> bool {
    insn.rm == Rm::Register(1) && insn.reg == reg
}

fn halt(guest: &mut impl Guest, insn: &Insn) -> Step {
    let frame = guest.frame();
    frame.rip = frame.rip.wrapping_add(u64::from(insn.length));
    Step::Ends(Outcome::Block)
}

fn set_pair(guest: &mut impl Guest, value: u64) {
    let frame = guest.frame();
    (frame.rax, frame.rdx) = (value & mask(4), value >> 32);
}

/// Emulates RDTSC, which traps if the guest's CR4.TSD is set: it faults in user mode.
fn rdtsc(guest: &mut (impl Control + Msrs)) -> Step {
    if guest.mode() == Mode::User && guest.cr4() & cr4::TSD != 0 {
        return Step::GENERAL_PROTECTION;
    }
    let tsc = guest.tsc();
    set_pair(guest, tsc);
    Step::Retire
}

fn rdtscp(guest: &mut (impl Control + Msrs)) -> Step {
    match rdtsc(guest) {
        Step::Retire => {
            guest.frame().rcx = u64::from(guest.msrs().tsc_aux);
            Step::Retire
        }
        ends => ends,
    }
}

/// Emulates CPUID where the CPU makes it fault.
#[inline(never)] // keeps its stack frame off the path of other instructions
fn faulted_cpuid(guest: &mut (impl Msrs + Cpuid), mode: Mode) -> Step {
    let asked = match mode {
        Mode::Kernel => Asked::KernelFault,
        Mode::User => Asked::User,
    };
    cpuid(guest, asked)
}

#[inline(always)] // into its two paths
fn cpuid(guest: &mut (impl Msrs + Cpuid), asked: Asked) -> Step {
    if asked == Asked::User && guest.msrs().misc_features & CPUID_FAULTING != 0 {
        return Step::GENERAL_PROTECTION;
    }
    let frame = guest.frame();
    let (leaf, subleaf) = (frame.rax as u32, frame.rcx as u32);
    let answer = guest.cpuid(leaf, subleaf, asked);
    let frame = guest.frame();
    frame.rax = u64::from(answer.a);
    frame.rbx = u64::from(answer.b);
    frame.rcx = u64::from(answer.c);
    frame.rdx = u64::from(answer.d);
    Step::Retire
}

/// Returns the general register of an instruction that moves to or from a control or debug register.
pub(super) fn whole_register<'a>(guest: &'a mut impl Guest, insn: &Insn) -> Option<&'a mut u64> {
    match insn.rm {
        Rm::Register(number) => Some(operand::register(guest.frame(), number)),
        Rm::Memory(_) => None,
    }
}
