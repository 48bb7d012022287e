//! The frames that enter a narrow guest's kernel. From the stack pointer upwards: the error code of exceptions that have
//! one, eip, cs with the saved upcall mask in bits 16 to 23, eflags, and, if an outer ring was interrupted, esp and ss.
//! They lie where the CPU would push them. As on Xen, the stack segment is taken to be flat.

use crate::kit::atomic::Ordering;

use arrayvec::ArrayVec;
use zerocopy::IntoBytes;

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::TrapInfo;

use super::super::bounce::{CLEARED, Cause, Stuck, end, flags_told};
use super::super::emulate::virtual_ring;
use super::super::state::{Callback, Entered, State, is_null, masks_events, outside_ring0};
use crate::arch::exception::{self, has_error_code};
use crate::arch::frame::Mode;
use crate::arch::seg;
use crate::domain::Ctx;
use crate::kit::Vaddr;

/// The longest frame: that of the failsafe callback, with an outer ring's stack.
const MAX_WORDS: usize = 9;
type Words = ArrayVec<u32, MAX_WORDS>;

/// A handler of the guest's.
pub(super) struct Handler {
    cs: u16,
    entry: u64,
    masks_events: bool,
}

impl Handler {
    /// The handler for this. `None` if the guest has registered none.
    pub(super) fn of(st: &State, cause: Cause) -> Option<Self> {
        let (traps, callbacks) = st.entries();
        let callback = match cause {
            Cause::Trap(vector) => return Self::of_trap(traps.get(usize::from(vector))?),
            Cause::Event => Callback {
                masks_events: 1,
                ..callbacks.event
            },
            Cause::Syscall | Cause::Syscall32 => callbacks.syscall32,
            Cause::Sysenter => callbacks.sysenter,
            Cause::Failsafe => callbacks.failsafe,
        };
        Self::of_callback(callback)
    }

    fn of_trap(trap: &TrapInfo) -> Option<Self> {
        (!is_null(trap.cs)).then_some(Self {
            cs: trap.cs,
            entry: trap.address,
            masks_events: masks_events(trap),
        })
    }

    fn of_callback(callback: Callback) -> Option<Self> {
        (!is_null(callback.cs)).then_some(Self {
            cs: callback.cs,
            entry: callback.entry,
            masks_events: callback.masks_events != 0,
        })
    }
}

/// Makes the vCPU that runs on this CPU enter its kernel. The error code of an exception that has one is in its frame.
///
/// # Errors
/// See [`Stuck`].
pub fn deliver(ctx: &mut Ctx<'_>, cause: Cause) -> Result<(), Stuck> {
    let error = match cause {
        Cause::Trap(vector) if has_error_code(vector) => Some(ctx.regs.error),
        _ => None,
    };
    let handler = Handler::of(ctx.st.pv(), cause).ok_or(Stuck::NoNarrowHandler)?;
    if cause == Cause::Trap(exception::PF) {
        ctx.vcpu.info.set_narrow_cr2(ctx.st.pv().cr2 as u32);
    }
    enter(ctx, &handler, error.as_slice())
}

/// Enters the handler of `int n` of a narrow guest, whose eip is `bytes` before the end of the instruction. False if
/// the guest isn't narrow, or if the code that runs may not call the gate.
pub fn call_gate(ctx: &mut Ctx<'_>, number: u8, bytes: u64) -> bool {
    let ring = virtual_ring(ctx);
    let gate = match &ctx.st.pv().narrow {
        Some(narrow) => narrow.traps.get(usize::from(number)),
        None => None,
    };
    let gate = gate.filter(|gate| gate.flags & 3 >= ring);
    let Some(handler) = gate.and_then(Handler::of_trap) else {
        return false;
    };
    ctx.regs.rip = ctx.regs.rip.wrapping_add(bytes);
    // `int n` pushes no error code, whatever its number.
    if let Err(stuck) = enter(ctx, &handler, &[]) {
        end(ctx, stuck.why());
    }
    true
}

/// Enters the failsafe callback. Its frame begins with the selectors of ds, es, fs and gs, null where one could not be
/// loaded.
///
/// # Errors
/// See [`Stuck`].
pub fn failsafe(ctx: &mut Ctx<'_>) -> Result<(), Stuck> {
    let handler = Handler::of(ctx.st.pv(), Cause::Failsafe).ok_or(Stuck::NoFailsafe)?;
    enter(ctx, &handler, &seg::selectors().map(u32::from))
}

/// Whether the vCPU is still where [`enter`] has put it, so that it has executed nothing of the handler. Called when IRET
/// could not load the frame: the handler of that exception would be entered by the same segments, with the same end, and
/// a CPU in ring 0 does not take interrupts in between.
pub fn is_unreached(ctx: &Ctx<'_>) -> bool {
    let narrow = ctx.st.pv().narrow.as_ref();
    narrow.is_some_and(|narrow| narrow.entered == Entered::of(ctx.regs))
}

/// Whether code with this selector runs in a ring outside the kernel's.
pub const fn is_outer(cs: u64) -> bool {
    cs & 2 != 0
}

fn enter(ctx: &mut Ctx<'_>, handler: &Handler, first: &[u32]) -> Result<(), Stuck> {
    let (pv, regs) = (ctx.st.pv(), &*ctx.regs);
    let outer = is_outer(regs.cs);
    let (ss, top) = if outer {
        (
            u64::from(outside_ring0(Width::Narrow, pv.kernel_ss)),
            pv.kernel_sp,
        )
    } else {
        (regs.ss, regs.rsp)
    };
    let masked = ctx.vcpu.info.upcall_mask().load(Ordering::Relaxed);
    let cs = regs.cs as u16;
    let interrupted = [
        regs.rip as u32,
        u32::from(cs) | u32::from(masked) << 16,
        flags_told(ctx.dom, pv, regs, masked) as u32,
        regs.rsp as u32,
        regs.ss as u32 & 0xffff,
    ];
    let count = if outer { 5 } else { 3 };
    let words: Words = first
        .iter()
        .chain(interrupted.iter().take(count))
        .copied()
        .collect();
    let words = words.as_bytes();
    let sp = (top as u32).wrapping_sub(words.len() as u32);
    let pushed = ctx.guest().write_bytes(Vaddr(sp.into()), words);
    pushed.map_err(|_| Stuck::BadStack)?;
    (ctx.regs.ss, ctx.regs.rsp) = (ss, sp.into());
    begin(ctx, handler);
    Ok(())
}

/// Lets the vCPU continue at the handler, whose frame is on its stack.
pub(super) fn begin(ctx: &mut Ctx<'_>, handler: &Handler) {
    if handler.masks_events {
        ctx.vcpu.info.upcall_mask().store(1, Ordering::Relaxed);
    }
    let (regs, pv) = (&mut *ctx.regs, ctx.st.pv_mut());
    (regs.cs, regs.rip) = (handler.cs.into(), handler.entry);
    regs.rflags &= !CLEARED;
    pv.mode = Mode::Kernel;
    if let Some(narrow) = &mut pv.narrow {
        narrow.entered = Entered::of(regs);
    }
}
