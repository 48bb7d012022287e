//! SYSCALL and SYSENTER: a hypercall from guest kernel mode, a system call from guest user mode.

use guest_pv_abi::arch_x86::FLAT_RING3_CS32;

use super::current::with_current;
use crate::arch::frame::TrapFrame;
use crate::arch::rflags;
use crate::domain::shutdown::crash;
use crate::domain::trap::{Bounce, deliver};
use crate::hypercall::{self, Ctx, Outcome};

/// Flags that SYSENTER left as user mode had them and that user mode gets back.
pub const SYSENTER_KEEP: u64 = rflags::GUEST_SETTABLE & !(rflags::TF | rflags::NT | rflags::RF);

/// A hypercall's number of bytes: `syscall` is 0f 05, to be executed again for a continuation.
const SYSCALL_BYTES: u64 = 2;

/// `syscall` in 64-bit code.
pub extern "C" fn handle_syscall(frame: &mut TrapFrame) {
    with_current(frame, |ctx| {
        if ctx.st.in_kernel {
            let outcome = hypercall::from_syscall(ctx);
            apply(ctx, outcome);
        } else {
            bounce(ctx, ctx.st.callbacks.syscall.into());
        }
    });
}

/// `syscall` in compatibility mode (AMD).
pub extern "C" fn handle_syscall32(frame: &mut TrapFrame) {
    with_current(frame, |ctx| {
        let callback = ctx.st.callbacks.syscall32;
        if ctx.st.in_kernel || callback.entry == 0 {
            invalid_opcode(ctx);
        } else {
            bounce(ctx, callback.into());
        }
    });
}

/// `sysenter`, which says neither where it came from nor with which stack.
pub extern "C" fn handle_sysenter(frame: &mut TrapFrame) {
    with_current(frame, |ctx| {
        let callback = ctx.st.callbacks.sysenter;
        if ctx.st.in_kernel || callback.entry == 0 {
            bounce(ctx, Bounce::exception(ctx.st, 13, 0));
        } else {
            ctx.regs.cs = u64::from(FLAT_RING3_CS32);
            bounce(ctx, callback.into());
        }
    });
}

/// #UD at the `syscall` itself, which is two bytes back.
fn invalid_opcode(ctx: &mut Ctx<'_>) {
    ctx.regs.rip = ctx.regs.rip.wrapping_sub(SYSCALL_BYTES);
    bounce(ctx, Bounce::exception(ctx.st, 6, 0));
}

/// Enters the guest kernel, or ends a domain that can't be entered.
pub fn bounce(ctx: &mut Ctx<'_>, bounce: Bounce) {
    if let Err(why) = deliver(ctx.dom, ctx.vcpu, ctx.st, ctx.regs, bounce) {
        super::dump::guest(ctx);
        crash(ctx.dom, why);
    }
}

/// Gives a hypercall's outcome to its caller.
fn apply(ctx: &mut Ctx<'_>, outcome: Outcome) {
    match outcome {
        Outcome::Done(result) => ctx.regs.rax = result as u64,
        Outcome::Again(args) => {
            hypercall::set_arguments(ctx.regs, &args);
            ctx.regs.rip = ctx.regs.rip.wrapping_sub(SYSCALL_BYTES);
        }
        Outcome::Replaced => {}
        Outcome::Crash(why) => {
            super::dump::guest(ctx);
            crash(ctx.dom, why);
        }
    }
}
