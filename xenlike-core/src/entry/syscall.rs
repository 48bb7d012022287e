//! SYSCALL and SYSENTER: hypercalls from guest kernel mode, system calls from guest user mode.

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::{FLAT_RING3_CS32, narrow};

use super::current::{Running, running, with_current};
use super::interrupts;
use crate::arch::frame::{Mode, TrapFrame};
use crate::arch::{exception, rflags};
use crate::domain::Ctx;
use crate::hypercall::{self, InNarrowRegisters, InRegisters, Outcome};
use crate::kit::AtomicRef;
use crate::pv::bounce::{Bounce, Cause, Stuck, bounce, deliver, deliver_from, end, inject, stop};

/// The flags of user mode that SYSENTER doesn't change and that are restored.
pub const SYSENTER_KEEP: u64 = rflags::GUEST_SETTABLE & !(rflags::TF | rflags::NT | rflags::RF);

/// The length of `syscall` (0f 05) and of `int 0x82` (cd 82), which are executed again for a continuation.
const SYSCALL_BYTES: u64 = 2;

/// Handles `syscall` in 64-bit code.
pub extern "C" fn handle_syscall(frame: &mut TrapFrame) {
    let Some(running) = running() else {
        return;
    };
    // Only wide guests have 64-bit code.
    if running.with(frame, |ctx| ctx.st.pv().mode) == Mode::User {
        return from_user(frame, running);
    }
    if let Some(hypercall) = DOORS.get().get(hypercall::place(frame.rax)) {
        hypercall(frame, running);
    }
}

/// A hypercall that the guest made by the instruction itself, rather than by a multicall.
pub type Door = fn(&mut TrapFrame, &'static Running);
/// The table in use: [`HYPERCALLS`], or another one while hypercalls are traced.
pub static DOORS: AtomicRef<[Door; hypercall::PLACES]> = AtomicRef::new(&HYPERCALLS);

/// The hypercalls by place. The arguments are in the trap frame, from which a call takes the ones that it uses.
pub static HYPERCALLS: [Door; hypercall::PLACES] = hypercall::by_number!(hypercall_at);

fn hypercall_at<const PLACE: u64>(frame: &mut TrapFrame, running: &'static Running) {
    match running.with(frame, |ctx| hypercall::at_place::<PLACE>(ctx, InRegisters)) {
        Outcome::Done(result) => frame.rax = result as u64,
        Outcome::Replaced => {}
        other => apply(frame, other),
    }
}

/// The hypercalls of narrow guests by place.
static NARROW_HYPERCALLS: [Door; hypercall::PLACES] = hypercall::by_number!(narrow_hypercall_at);

fn narrow_hypercall_at<const PLACE: u64>(frame: &mut TrapFrame, running: &'static Running) {
    let outcome = running.with(frame, |ctx| {
        hypercall::at_narrow_place::<PLACE>(ctx, InNarrowRegisters)
    });
    match outcome {
        Outcome::Done(result) => frame.rax = u64::from(result as u32),
        Outcome::Replaced => {}
        other => apply(frame, other),
    }
}

/// Applies an outcome other than a result. Cold.
#[cold]
fn apply(frame: &mut TrapFrame, outcome: Outcome) {
    with_current(frame, |ctx| match outcome {
        Outcome::Done(_) | Outcome::Replaced => {}
        Outcome::Again => ctx.regs.rip = ctx.regs.rip.wrapping_sub(SYSCALL_BYTES),
        Outcome::Crash(why) => end(ctx, why),
    });
}

/// Handles a system call of a user process.
#[inline(never)] // keeps its stack frame off the hypercall path
fn from_user(frame: &mut TrapFrame, running: &'static Running) {
    let entered = running.with(frame, |ctx| {
        let callback = Bounce::callback(ctx.st.pv().callbacks.syscall, Cause::Syscall);
        deliver_from(Mode::User, ctx, callback)
    });
    match entered {
        Ok(()) => {}
        // The kernel has registered no entry point for system calls.
        Err(Stuck::NoHandler(..)) => no_entry(frame),
        Err(stuck) => give_up(frame, stuck),
    }
}

#[cold]
fn no_entry(frame: &mut TrapFrame) {
    with_current(frame, invalid_opcode);
}

/// Enters the guest's kernel as `to` says, or ends a domain that can't be entered. For handlers that do nothing else.
#[inline(always)] // see `deliver`
pub fn enter_kernel(
    frame: &mut TrapFrame,
    running: &'static Running,
    to: impl FnOnce(&mut Ctx<'_>) -> Bounce,
) {
    let entered = running.with(frame, |ctx| {
        let bounce = to(ctx);
        deliver(ctx, bounce)
    });
    if let Err(stuck) = entered {
        give_up(frame, stuck);
    }
}

/// Handles `syscall` in compatibility mode, which only AMD's CPUs have.
pub extern "C" fn handle_syscall32(frame: &mut TrapFrame) {
    with_current(frame, |ctx| {
        flatten(ctx);
        let (pv, callback) = (ctx.st.pv(), ctx.st.pv().entries().1.syscall32);
        let width = pv.width;
        if ctx.mode() == Mode::User && callback.is_registered(width) {
            let callback = ctx.st.pv().callbacks.syscall32;
            bounce(ctx, Bounce::callback(callback, Cause::Syscall32));
        } else if width == Width::Narrow {
            // As on Xen, at the instruction itself.
            ctx.regs.rip = ctx.regs.rip.wrapping_sub(SYSCALL_BYTES);
            ctx.regs.error = 0;
            inject(ctx, exception::GP);
        } else {
            invalid_opcode(ctx);
        }
    });
}

/// Handles `sysenter`, which saves neither the address nor the stack pointer of its caller.
pub extern "C" fn handle_sysenter(frame: &mut TrapFrame) {
    with_current(frame, |ctx| {
        let (width, callback) = (ctx.st.pv().width, ctx.st.pv().entries().1.sysenter);
        ctx.regs.cs = u64::from(FLAT_RING3_CS32);
        flatten(ctx);
        if ctx.mode() == Mode::Kernel || !callback.is_registered(width) {
            ctx.regs.cs = 3;
            ctx.regs.error = 0;
            bounce(ctx, Bounce::exception(ctx.st, exception::GP, Some(0)));
        } else {
            let callback = ctx.st.pv().callbacks.sysenter;
            bounce(ctx, Bounce::callback(callback, Cause::Sysenter));
        }
    });
}

/// Gives the frame of a narrow guest, whose CPU saved no selectors, the flat ones of user code. Its kernel has no use
/// for the instruction and counts as user code.
fn flatten(ctx: &mut Ctx<'_>) {
    if ctx.st.pv().width == Width::Narrow {
        ctx.st.pv_mut().mode = Mode::User;
        ctx.regs.cs = u64::from(narrow::FLAT_RING3_CS);
        ctx.regs.ss = u64::from(narrow::FLAT_RING3_SS);
    }
}

/// Handles `int 0x82` of a narrow guest's kernel: a hypercall. The gate is open to ring 1 alone, where no other guest has
/// code. In any other ring it is an interrupt of a device that domain 0 has programmed wrongly; one that comes while ring 1
/// runs can't be told from a hypercall without asking the APIC each time.
pub extern "C" fn hypercall_gate(frame: &mut TrapFrame) {
    if frame.cs & 3 != 1 {
        return interrupts::handle(frame.vector as u8);
    }
    let Some(running) = running() else {
        return;
    };
    if let Some(hypercall) = NARROW_HYPERCALLS.get(hypercall::place(frame.rax & 0xffff_ffff)) {
        hypercall(frame, running);
    }
}

/// Injects #UD at the `syscall` instruction itself.
#[cold]
#[inline(never)] // off the path of system calls
fn invalid_opcode(ctx: &mut Ctx<'_>) {
    ctx.regs.rip = ctx.regs.rip.wrapping_sub(SYSCALL_BYTES);
    bounce(ctx, Bounce::exception(ctx.st, exception::UD, None));
}

/// Ends the domain of the vCPU that runs here and is stuck.
#[cold]
fn give_up(frame: &mut TrapFrame, stuck: Stuck) {
    with_current(frame, |ctx| stop(ctx.reborrow(), stuck));
}
