//! Traps that may be an instruction to emulate: the emulator decides, and what it says is done here.

mod guest;
mod ports;
mod registers;
mod segment;
mod table;

use guest_pv_abi::arch_x86::FLAT_RING3_CS64;
use guest_pv_abi::xen::VMASST_TYPE_ARCHITECTURAL_IOPL;

use super::bounce::{Bounce, bounce, inject};
use super::page_fault;
use crate::arch::exception;
use crate::arch::frame::{Mode, TrapFrame};
use crate::domain::Ctx;
use crate::domain::debug::merged_dr6;
use crate::domain::vcpu::pause;
use crate::emul::{self, Exception, Outcome};
use crate::kit::Vaddr;
use crate::kit::atomic::Ordering;
use crate::mm::guest_copy;
use guest::Emulated;

/// Error code of #GP: the selector field is an IDT vector (APM vol. 2 §8.4.1).
const ERROR_IDT: u32 = 2;
/// Page fault error code: a write.
const ERROR_WRITE: u32 = 2;
/// `int n` in bytes.
const INT_N_BYTES: u64 = 2;

/// A guest's #GP: `int n` through a gate that is not open to ring 3, an instruction to emulate, or its
/// own affair.
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

/// What a guest's #UD is about.
pub enum Invalid {
    /// An instruction that is the guest's own affair.
    Instruction,
    /// CPUID behind the forced-emulation prefix, in flat code.
    ForcedCpuid,
    /// The emulator has to look.
    Perhaps,
}

/// What a guest's #UD is about: in flat code that is seen at once.
#[inline]
pub fn look_at(regs: &TrapFrame) -> Invalid {
    if regs.cs as u16 != FLAT_RING3_CS64 {
        return Invalid::Perhaps;
    }
    match guest_copy::read_u32(Vaddr(regs.rip)) {
        Ok(bytes) if !emul::asks_to_be_emulated(bytes) => return Invalid::Instruction,
        Err(_) => return Invalid::Perhaps,
        Ok(_) => {}
    }
    match guest_copy::read_u32(Vaddr(regs.rip.wrapping_add(3))) {
        Ok(bytes) if emul::is_forced_cpuid(bytes) => Invalid::ForcedCpuid,
        _ => Invalid::Perhaps,
    }
}

/// CPUID behind the prefix, in flat code.
pub fn forced_cpuid(ctx: &mut Ctx<'_>) {
    let outcome = emul::forced_cpuid(&mut Emulated::new(ctx), emul::Bits::SixtyFour);
    if outcome != Outcome::Done {
        apply(ctx, outcome, exception::UD);
    }
}

/// A guest's #UD that may be CPUID behind the prefix.
pub fn invalid_opcode(ctx: &mut Ctx<'_>) {
    let outcome = emul::invalid_opcode(&mut Emulated::new(ctx));
    apply(ctx, outcome, exception::UD);
}

/// `int n` by a guest, with RIP `bytes` before the end of the instruction: its handler if the mode that
/// runs may call it (TI_GET_DPL in arch-x86/xen.h), else #GP as the machine would give it.
#[inline(always)] // a gate that is open needs no more than its bounce
pub fn software_interrupt(ctx: &mut Ctx<'_>, number: u8, bytes: u64) {
    let privilege = match (
        ctx.st.pv().mode,
        ctx.dom.assists(VMASST_TYPE_ARCHITECTURAL_IOPL),
    ) {
        (Mode::User, _) => 3,
        (Mode::Kernel, false) => 1,
        (Mode::Kernel, true) => 0,
    };
    let flags = ctx
        .st
        .pv()
        .traps
        .get(usize::from(number))
        .map(|trap| trap.flags);
    let gate = Bounce::exception(ctx.st, number, None);
    if gate.entry != 0 && flags.is_some_and(|flags| flags & 3 >= privilege) {
        ctx.regs.rip = ctx.regs.rip.wrapping_add(bytes);
        return bounce(ctx, gate);
    }
    closed_gate(ctx.reborrow(), number, bytes);
}

/// The machine's #GP for `int n`.
#[inline(never)] // its frame is not for every system call to carry
fn closed_gate(mut ctx: Ctx<'_>, number: u8, bytes: u64) {
    let ctx = &mut ctx;
    ctx.regs.rip = ctx.regs.rip.wrapping_sub(INT_N_BYTES.wrapping_sub(bytes));
    ctx.regs.error = u32::from(number) << 3 | ERROR_IDT;
    inject(ctx, exception::GP);
}

/// A guest kernel's write fault at `address`, in a page that is there: true if it was a store into one of
/// the guest's L1 tables and is dealt with.
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

/// Domain 0's write fault at `address`, in a page that is there: true if it was a plain store into a device's page that
/// it may only read (an MSI-X table in use, the HPET), which has no effect, as on Xen.
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

/// Does what the emulator says; `trapped` is the exception that the guest gets if it is not the
/// emulator's.
fn apply(ctx: &mut Ctx<'_>, outcome: Outcome, trapped: u8) {
    match outcome {
        Outcome::Done | Outcome::Again => {}
        Outcome::Debug(cause) => {
            ctx.st.debug[4] = merged_dr6(ctx.st.debug[4], cause);
            inject(ctx, exception::DB);
        }
        Outcome::Block => block(ctx),
        Outcome::Fault(Exception::Page(fault)) => {
            let write = if fault.access == emul::Access::Write {
                ERROR_WRITE
            } else {
                0
            };
            page_fault::give(ctx, fault.at.0, write);
        }
        Outcome::Fault(Exception::GeneralProtection) => fault(ctx, exception::GP),
        Outcome::Fault(Exception::InvalidOpcode) => fault(ctx, exception::UD),
        Outcome::Fault(Exception::Stack) => fault(ctx, exception::SS),
        Outcome::NotOurs => inject(ctx, trapped),
    }
}

fn fault(ctx: &mut Ctx<'_>, number: u8) {
    ctx.regs.error = 0;
    inject(ctx, number);
}

/// HLT: as SCHEDOP_block, but event delivery stays as the guest has it.
fn block(ctx: &mut Ctx<'_>) {
    let vcpu = ctx.vcpu;
    vcpu.gate.set(pause::BLOCKED);
    if vcpu.info.upcall_pending().load(Ordering::SeqCst) != 0 || vcpu.nmi_due(ctx.st) {
        vcpu.gate.remove(pause::BLOCKED);
    } else {
        crate::arch::work::raise_here(crate::arch::work::SCHEDULE);
    }
}
