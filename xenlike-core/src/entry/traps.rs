//! Dispatches traps to their handlers.

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::narrow::HYPERCALL_VECTOR;

use super::current::{Running, running, with_current};
use super::{dump, interrupts, ring0, syscall};
use crate::arch::exception::{self, has_error_code};
use crate::arch::frame::{Mode, TrapFrame};
use crate::arch::ipi::Vector;
use crate::arch::{cr, debugreg, lapic, rflags};
use crate::domain::Ctx;
use crate::domain::debug::merged_dr6;
use crate::kit::AtomicRef;
use crate::pv::bounce::{Bounce, inject};
use crate::pv::emulate::{self, Invalid};
use crate::pv::page_fault;

/// The system call gate of 32-bit Linux, which ring 3 may use.
pub const SYSCALL_GATE: u8 = 0x80;

/// The handler of a trap; it gets the frame at the top of the stack.
pub type TrapHandler = extern "C" fn(&mut TrapFrame);

/// The handlers of all traps and interrupts, by vector. Through a table each pays only for its own stack frame (ADR 12).
pub static TRAP_HANDLERS: [TrapHandler; 256] = {
    let mut table: [TrapHandler; 256] = [interrupt; 256];
    let mut n = 0;
    while n < 32 {
        table[n] = if has_error_code(n as u8) {
            with_error
        } else {
            without_error
        };
        n += 1;
    }
    table[exception::DB as usize] = debug;
    table[exception::NMI as usize] = interrupts::nmi;
    table[exception::DF as usize] = double_fault;
    table[exception::MC as usize] = machine_check;
    table[exception::UD as usize] = invalid_opcode;
    table[exception::NM as usize] = device_not_available;
    table[exception::GP as usize] = general_protection;
    table[exception::PF as usize] = page_fault;
    table[SYSCALL_GATE as usize] = system_call_gate;
    table[HYPERCALL_VECTOR as usize] = syscall::hypercall_gate;
    let mut n = FIRST_SHARED;
    while n < 32 {
        if n != exception::MC as usize {
            table[n] = exception_or_interrupt;
        }
        n += 1;
    }
    table[Vector::Timer as usize] = interrupts::timer;
    table[Vector::Kick as usize] = interrupts::kick;
    table[Vector::TlbFlush as usize] = interrupts::flush;
    table
};

/// The table that the stubs use: another one while traps are traced.
pub static HANDLERS: AtomicRef<[TrapHandler; 256]> = AtomicRef::new(&TRAP_HANDLERS);

/// The handlers while there are narrow guests. The mode of such a guest's vCPU is found at each trap.
pub static HANDLERS_BY_RING: [TrapHandler; 256] = [by_ring; 256];

/// Finds the mode of a narrow guest's vCPU, and handles the trap.
pub extern "C" fn by_ring(frame: &mut TrapFrame) {
    if frame.from_guest() {
        with_current(frame, |ctx| {
            let (ring, pv) = (ctx.regs.cs & 3, ctx.st.pv_mut());
            if pv.width == Width::Narrow {
                pv.mode = if ring == 1 { Mode::Kernel } else { Mode::User };
            }
        });
    }
    if let Some(handler) = TRAP_HANDLERS.get(usize::from(frame.vector as u8)) {
        handler(frame);
    }
}

/// The first vector that an APIC accepts for an interrupt (SDM vol. 3, "Valid Interrupt Vectors").
const FIRST_SHARED: usize = 16;

/// A vector that is an exception's and that devices can use for interrupts, too: an interrupt is in service in the local
/// APIC. An interrupt and an exception of the same vector at the same time are treated as one interrupt.
extern "C" fn exception_or_interrupt(frame: &mut TrapFrame) {
    let vector = frame.vector as u8;
    if lapic::is_in_service(vector) {
        interrupts::handle(vector);
    } else if has_error_code(vector) {
        with_error(frame);
    } else {
        without_error(frame);
    }
}

/// Calls `act` for a guest's trap; a trap in ring 0 is the hypervisor's own.
#[inline]
fn from_guest(frame: &mut TrapFrame, act: impl FnOnce(&mut Ctx<'_>)) {
    if frame.from_guest() {
        with_current(frame, act);
    } else {
        ring0::trapped(frame);
    }
}

extern "C" fn interrupt(frame: &mut TrapFrame) {
    interrupts::handle(frame.vector as u8);
}

extern "C" fn page_fault(frame: &mut TrapFrame) {
    if !frame.from_guest() {
        return ring0::trapped(frame);
    }
    let Some(running) = running() else {
        return;
    };
    let (code, address) = (frame.error, cr::cr2());
    if page_fault::may_be_handled(code) {
        return handle(running, frame, address);
    }
    syscall::enter_kernel(frame, running, |ctx| {
        page_fault::prepare_fault(ctx, address, code)
    });
}

#[inline(never)] // keeps its stack frame off the path of faults that are injected
fn handle(running: &'static Running, frame: &mut TrapFrame, address: u64) {
    running.with(frame, |ctx| page_fault::handle(ctx, address));
}

extern "C" fn general_protection(frame: &mut TrapFrame) {
    from_guest(frame, emulate::general_protection);
}

extern "C" fn invalid_opcode(frame: &mut TrapFrame) {
    if !frame.from_guest() {
        return ring0::trapped(frame);
    }
    let Some(running) = running() else {
        return;
    };
    match emulate::classify_ud(frame) {
        Invalid::Instruction => undefined(running, frame),
        Invalid::ForcedCpuid => forced_cpuid(running, frame),
        Invalid::Unknown => maybe_prefixed(running, frame),
    }
}

#[inline(never)] // keeps its stack frame off the other paths
fn undefined(running: &'static Running, frame: &mut TrapFrame) {
    syscall::enter_kernel(frame, running, |ctx| {
        Bounce::exception(ctx.st, exception::UD, None)
    });
}

#[inline(never)] // keeps its stack frame off the path of other #UDs
fn forced_cpuid(running: &'static Running, frame: &mut TrapFrame) {
    running.with(frame, emulate::forced_cpuid);
}

#[inline(never)] // keeps its stack frame off the path of other #UDs
fn maybe_prefixed(running: &'static Running, frame: &mut TrapFrame) {
    running.with(frame, emulate::invalid_opcode);
}

extern "C" fn system_call_gate(frame: &mut TrapFrame) {
    from_guest(frame, |ctx| {
        emulate::software_interrupt(ctx, SYSCALL_GATE, 0);
    });
}

/// #NM: the guest used the FPU with CR0.TS set. As on Xen, TS is clear when its handler runs.
extern "C" fn device_not_available(frame: &mut TrapFrame) {
    from_guest(frame, |ctx| {
        cr::clts();
        if ctx.st.pv().task_switched {
            ctx.st.pv_mut().task_switched = false;
            inject(ctx, exception::NM);
        }
    });
}

/// #DB: its cause is added to the guest's DR6.
extern "C" fn debug(frame: &mut TrapFrame) {
    if !frame.from_guest() {
        return debug_in_ring0(frame);
    }
    with_current(frame, |ctx| {
        ctx.st.debug[4] = merged_dr6(ctx.st.debug[4], debugreg::take_dr6());
        inject(ctx, exception::DB);
    });
}

/// #DB in ring 0, which a guest can cause: by SYSENTER with TF set, by a data breakpoint that `mov ss` delays, or by one on
/// memory that is copied from or to it. It is dropped, and a copy continues. This runs on the small stack of #DB.
#[cold]
#[inline(never)]
fn debug_in_ring0(frame: &mut TrapFrame) {
    frame.rflags &= !rflags::TF;
    debugreg::take_dr6();
}

/// Handles exceptions without an error code that the guest itself has to handle.
extern "C" fn without_error(frame: &mut TrapFrame) {
    inject_unchanged(frame, |ctx| {
        Bounce::exception(ctx.st, ctx.regs.vector as u8, None)
    });
}

/// Exceptions with an error code that are injected as they are.
extern "C" fn with_error(frame: &mut TrapFrame) {
    inject_unchanged(frame, |ctx| {
        Bounce::exception(ctx.st, ctx.regs.vector as u8, Some(ctx.regs.error))
    });
}

#[inline(always)] // see `deliver`
fn inject_unchanged(frame: &mut TrapFrame, to: impl FnOnce(&mut Ctx<'_>) -> Bounce) {
    if !frame.from_guest() {
        ring0::trapped(frame);
    } else if let Some(running) = running() {
        syscall::enter_kernel(frame, running, to);
    }
}

/// #DF: the CPU could not deliver an exception.
extern "C" fn double_fault(frame: &mut TrapFrame) {
    dump::fatal(frame, "double fault");
}

extern "C" fn machine_check(frame: &mut TrapFrame) {
    // An interrupt at this vector has no handler. It arrives on the small stack of the exception, which has no room for
    // logging.
    if lapic::is_in_service(exception::MC) {
        return lapic::eoi();
    }
    dump::machine_check(frame);
}
