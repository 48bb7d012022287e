//! Traps that may be about an instruction to emulate: the emulator decides, and its outcome is applied here.

mod guest;
mod ports;
mod registers;
mod segment;
mod table;

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::FLAT_RING3_CS64;
use guest_pv_abi::xen::VMASST_TYPE_ARCHITECTURAL_IOPL;

use super::bounce::{Bounce, bounce, inject};
use super::narrow;
use super::page_fault;
use crate::arch::exception;
use crate::arch::frame::{Mode, TrapFrame};
use crate::domain::Ctx;
use crate::domain::debug::merged_dr6;
use crate::domain::vcpu::pause;
use crate::emul::{self, Exception, Outcome};
use crate::kit::Vaddr;
use crate::kit::atomic::Ordering;
use crate::mm::guest::Guest;

use guest::Emulated;

/// In the error code of #GP: the selector field is a vector of the IDT (APM vol. 2 §8.4.1).
const ERROR_IDT: u32 = 2;
/// The length of `int n`.
const INT_N_BYTES: u64 = 2;

/// Handles a guest's #GP: `int n` through a gate that ring 3 may not use, an instruction to emulate, or an exception for
/// the guest.
pub fn general_protection(ctx: &mut Ctx<'_>) {
    let code = ctx.regs.error;
    if code & 7 == ERROR_IDT {
        return software_interrupt(ctx, (code >> 3) as u8, INT_N_BYTES);
    }
    if code != 0 {
        return inject(ctx, exception::GP);
    }
    let outcome = emul::general_protection(&mut Emulated::new(ctx));
    apply(ctx, outcome, exception::GP);
}

/// The cause of a guest's #UD.
pub enum Invalid {
    /// An invalid instruction: the exception is the guest's.
    Instruction,
    /// CPUID with the forced-emulation prefix, in flat 64-bit code.
    ForcedCpuid,
    /// Not known without the emulator.
    Unknown,
}

/// Finds the cause of a guest's #UD. In flat code the first bytes tell, without the emulator, whose frame on the stack
/// only the slow path should pay for (ADR 12).
#[inline]
pub fn classify_ud(regs: &TrapFrame) -> Invalid {
    if regs.cs as u16 != FLAT_RING3_CS64 {
        return Invalid::Unknown;
    }
    match Guest::loaded(Width::Wide).read::<u32>(Vaddr(regs.rip)) {
        Ok(bytes) if !emul::asks_to_be_emulated(bytes) => return Invalid::Instruction,
        Err(_) => return Invalid::Unknown,
        Ok(_) => {}
    }
    match Guest::loaded(Width::Wide).read::<u32>(Vaddr(regs.rip.wrapping_add(3))) {
        Ok(bytes) if emul::is_forced_cpuid(bytes) => Invalid::ForcedCpuid,
        _ => Invalid::Unknown,
    }
}

/// Emulates CPUID behind the forced-emulation prefix, in flat code.
pub fn forced_cpuid(ctx: &mut Ctx<'_>) {
    let outcome = emul::forced_cpuid(&mut Emulated::new(ctx), emul::Bits::SixtyFour);
    if outcome != Outcome::Done {
        apply(ctx, outcome, exception::UD);
    }
}

/// Handles a guest's #UD that may be CPUID behind the prefix.
pub fn invalid_opcode(ctx: &mut Ctx<'_>) {
    let outcome = emul::invalid_opcode(&mut Emulated::new(ctx));
    apply(ctx, outcome, exception::UD);
}

/// The ring in which the code that runs believes to be, for comparisons with the privilege of a gate and with the virtual
/// IOPL. Without architectural_iopl a guest's kernel counts as ring 1.
pub(super) fn virtual_ring(ctx: &Ctx<'_>) -> u8 {
    match ctx.mode() {
        Mode::User => 3,
        Mode::Kernel if ctx.dom.assists(VMASST_TYPE_ARCHITECTURAL_IOPL) => 0,
        Mode::Kernel => 1,
    }
}

/// Handles `int n` of a guest, whose RIP is `bytes` before the end of the instruction: enters its handler if the code that
/// runs may call it (TI_GET_DPL in arch-x86/xen.h), else injects the #GP that the CPU would raise.
#[inline(always)] // a gate that is open needs no more than its bounce
pub fn software_interrupt(ctx: &mut Ctx<'_>, number: u8, bytes: u64) {
    let ring = virtual_ring(ctx);
    let traps = &ctx.st.pv().traps;
    let flags = traps.get(usize::from(number)).map(|trap| trap.flags);
    let gate = Bounce::exception(ctx.st, number, None);
    if gate.entry != 0 && flags.is_some_and(|flags| flags & 3 >= ring) {
        ctx.regs.rip = ctx.regs.rip.wrapping_add(bytes);
        return bounce(ctx, gate);
    }
    closed_gate(ctx.reborrow(), number, bytes);
}

/// Injects the #GP of an `int n` that may not be called, or of which only a narrow guest has a gate.
#[inline(never)] // keeps its stack frame off the path of system calls
fn closed_gate(mut ctx: Ctx<'_>, number: u8, bytes: u64) {
    let ctx = &mut ctx;
    if narrow::frame::call_gate(ctx, number, bytes) {
        return;
    }
    ctx.regs.rip = ctx.regs.rip.wrapping_sub(INT_N_BYTES.wrapping_sub(bytes));
    ctx.regs.error = u32::from(number) << 3 | ERROR_IDT;
    inject(ctx, exception::GP);
}

/// Handles a write fault of a guest's kernel at `address`, in a page that is present. Returns true if it was a store into
/// one of the guest's L1 tables, which has been emulated.
pub fn page_table_write(ctx: &mut Ctx<'_>, address: u64) -> bool {
    let Some(table) = table::at(ctx, Vaddr(address)) else {
        return false;
    };
    let outcome = {
        let mut guest = Emulated::new(ctx);
        guest.table = Some(table);
        emul::ptwr::page_table_write(&mut guest, Vaddr(address))
    };
    if outcome == Outcome::NotOurs {
        return false;
    }
    apply(ctx, outcome, exception::PF);
    true
}

/// Handles a write fault of domain 0 at `address`, in a page that is present. Returns true if it was a plain store into a
/// page of a device that domain 0 may only read (an MSI-X table in use, the HPET). The store has no effect, as on Xen.
pub fn store_to_only_read_device(ctx: &mut Ctx<'_>, address: u64) -> bool {
    if !ctx.dom.is_control() || !table::is_only_read_device(ctx, Vaddr(address)) {
        return false;
    }
    let outcome = emul::ptwr::discarded_store(&mut Emulated::new(ctx), Vaddr(address));
    if outcome == Outcome::NotOurs {
        return false;
    }
    apply(ctx, outcome, exception::PF);
    true
}

/// Applies the emulator's outcome. `trapped` is the exception that is injected if the instruction is none that the
/// emulator handles.
fn apply(ctx: &mut Ctx<'_>, outcome: Outcome, trapped: u8) {
    match outcome {
        Outcome::Done | Outcome::Again => {}
        Outcome::Debug(cause) => {
            ctx.st.debug[4] = merged_dr6(ctx.st.debug[4], cause);
            inject(ctx, exception::DB);
        }
        Outcome::Block => block(ctx),
        Outcome::Fault(Exception::Page(fault)) => {
            let code = match fault.access {
                emul::Access::Read => 0,
                emul::Access::Write => page_fault::error::WRITE,
            };
            page_fault::inject_fault(ctx, fault.at.0, code);
        }
        Outcome::Fault(Exception::GeneralProtection) => fault(ctx, exception::GP),
        Outcome::Fault(Exception::InvalidOpcode) => fault(ctx, exception::UD),
        Outcome::NotOurs => inject(ctx, trapped),
    }
}

/// Injects an exception with error code 0.
fn fault(ctx: &mut Ctx<'_>, number: u8) {
    ctx.regs.error = 0;
    inject(ctx, number);
}

/// HLT: blocks the vCPU as SCHEDOP_block does, but leaves the event mask as it is. An event that arrives before the hold
/// is set doesn't wake the vCPU, so the hold is set first and the pending flag looked at afterwards.
fn block(ctx: &mut Ctx<'_>) {
    let vcpu = ctx.vcpu;
    vcpu.gate.set(pause::BLOCKED);
    if vcpu.info.upcall_pending().load(Ordering::SeqCst) != 0 || vcpu.nmi_due(ctx.st) {
        vcpu.gate.remove(pause::BLOCKED);
    } else {
        crate::arch::work::raise_here(crate::arch::work::SCHEDULE);
    }
}
