//! Bounces: how an exception, a system call or an event enters the guest's kernel.
//!
//! The hypervisor pushes a frame onto the kernel's stack and continues the vCPU at the kernel's handler. The frame is
//! that of the PV ABI (xen-x86_64.h): from the stack pointer upwards rcx, r11, the error code of exceptions that have
//! one, rip, cs with the saved upcall mask in bits 32–39, rflags, rsp and ss.
//!
//! Every system call of a guest comes through here, so the functions are inlined where the [`Bounce`] is made, and what
//! is known of it there is not tested again (ADR 12).

use crate::kit::atomic::Ordering;

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use guest_pv_abi::xen::VMASST_TYPE_ARCHITECTURAL_IOPL;

use super::narrow;
use super::state::{Callback, State, masks_events, mode};
use crate::arch::exception::has_error_code;
use crate::arch::frame::{Mode, TrapFrame};
use crate::arch::rflags;
use crate::domain::shutdown::crash;
use crate::domain::{Ctx, Domain, Vcpu, VcpuState};
use crate::mm::guest::frames::Told;

/// Why a vCPU can neither enter its kernel nor leave it. The domain is ended then, as by Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// A wide guest has no handler for this.
    NoHandler(Cause),
    /// A narrow guest has no handler for the exception or event.
    NoNarrowHandler,
    /// IRET can't load the segments of a narrow guest's handler.
    BadHandler,
    /// The segment registers can't be loaded, and the guest has no failsafe callback.
    NoFailsafe,
    /// A trap came from user mode, and the kernel has no page table.
    NoKernelTable,
    /// The frame can't be written to the kernel's stack.
    BadStack,
    /// The frame for iret can't be read from the stack, or a narrow guest's names a segment of ring 0.
    BadFrame,
    /// iret returns to user mode, but there is no root of a user address space.
    NoUserTable,
}

impl Stuck {
    /// Returns a sentence for the log.
    pub const fn why(self) -> &'static &'static str {
        match self {
            Self::NoHandler(..) | Self::NoNarrowHandler => {
                &"an exception or event has no handler registered in the guest"
            }
            Self::BadHandler => &"the segments of the guest's handler can't be loaded",
            Self::NoFailsafe => &"segments can't be loaded, and the guest has no failsafe callback",
            Self::NoKernelTable => &"no kernel page table for a trap from user mode",
            Self::BadStack => &"the guest kernel's stack can't be written for a trap",
            Self::BadFrame => {
                &"iret: the frame on the guest's stack can't be read, or names ring 0"
            }
            Self::NoUserTable => &"iret: to user mode without a user page table",
        }
    }
}

/// Why a guest's kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This exception, or `int n` with this number.
    Trap(u8),
    /// An event.
    Event,
    /// SYSCALL from user code.
    Syscall,
    /// SYSCALL from 32-bit user code.
    Syscall32,
    /// SYSENTER from user code.
    Sysenter,
    /// A segment register can't be loaded.
    Failsafe,
}

/// Where and how the guest's kernel is entered.
#[derive(Clone, Copy, Debug)]
pub struct Bounce {
    /// The address of the handler; 0 if the guest has registered none.
    pub entry: u64,
    /// The reason, for the path on which there is no such address.
    pub cause: Cause,
    /// The error code, for exceptions that have one.
    pub error: Option<u32>,
    /// Whether the entry masks event delivery.
    pub masks_events: bool,
}

impl Bounce {
    /// To this callback.
    #[inline]
    pub const fn callback(callback: Callback, cause: Cause) -> Self {
        Self {
            entry: callback.entry,
            cause,
            error: None,
            masks_events: callback.masks_events != 0,
        }
    }

    /// To the handler of exception `vector` in the guest's trap table. `error` is there if the exception
    /// [has an error code](has_error_code).
    #[inline]
    pub fn exception(st: &VcpuState, vector: u8, error: Option<u32>) -> Self {
        let trap = st.pv().traps.get(usize::from(vector));
        Self {
            entry: trap.map_or(0, |t| t.address),
            cause: Cause::Trap(vector),
            error,
            masks_events: trap.is_some_and(masks_events),
        }
    }
}

/// Makes the vCPU that runs on this CPU enter its kernel.
///
/// # Errors
/// See [`Stuck`].
#[inline(always)] // see the module's header
pub fn deliver(ctx: &mut Ctx<'_>, bounce: Bounce) -> Result<(), Stuck> {
    deliver_from(ctx.st.pv().mode, ctx, bounce)
}

/// The same for a caller that knows the vCPU's mode.
///
/// # Errors
/// See [`Stuck`].
#[inline(always)] // as `deliver`
pub fn deliver_from(from: Mode, ctx: &mut Ctx<'_>, bounce: Bounce) -> Result<(), Stuck> {
    if bounce.entry == 0 {
        return Err(Stuck::NoHandler(bounce.cause));
    }
    // Looked at once: memory of the guest is written in between.
    let (dom, vcpu): (&Domain, &Vcpu) = (ctx.dom, ctx.vcpu);
    let (top, told) = interrupt(from, dom, vcpu, ctx.st.pv_mut(), ctx.regs)?;
    let error = bounce.error;
    let told = Told { error, ..told };
    let pushed = ctx.guest().push_frame(top, ctx.regs, told);
    let sp = pushed.map_err(|_| Stuck::BadStack)?;
    begin(vcpu, ctx.regs, bounce, sp);
    Ok(())
}

/// Switches the vCPU to its kernel's mode. Returns the end of the stack onto which the frame is pushed, and what the
/// frame says of the interrupted code.
#[inline(always)] // a part of `deliver`
pub(super) fn interrupt(
    from: Mode,
    dom: &Domain,
    vcpu: &Vcpu,
    pv: &mut State,
    regs: &TrapFrame,
) -> Result<(u64, Told), Stuck> {
    let (sp, cs) = match from {
        // By ring 0 in the saved selector the guest sees that its kernel was interrupted.
        Mode::Kernel => (regs.rsp, regs.cs & 0xfffc),
        Mode::User => {
            mode::enter_kernel(pv).map_err(|_| Stuck::NoKernelTable)?;
            (pv.kernel_sp, regs.cs & 0xffff)
        }
    };
    let masked = vcpu.info.upcall_mask().load(Ordering::Relaxed);
    let told = Told {
        cs: cs | u64::from(masked) << 32,
        rflags: flags_told(dom, pv, regs, masked),
        error: None,
    };
    Ok((sp & !15, told))
}

/// The flags of the interrupted code as the guest sees them, while its event mask is `masked`.
#[inline(always)] // a part of `deliver`
pub(super) fn flags_told(dom: &Domain, pv: &State, regs: &TrapFrame, masked: u8) -> u64 {
    let mut flags = regs.rflags & !(rflags::IF | rflags::IOPL);
    if masked == 0 {
        flags |= rflags::IF;
    }
    if dom.assists(VMASST_TYPE_ARCHITECTURAL_IOPL) {
        flags = with_iopl(flags, pv.iopl);
    }
    flags
}

/// Adds the virtual I/O privilege level to the flags, for the few guests that enabled architectural_iopl.
#[cold]
const fn with_iopl(flags: u64, iopl: u8) -> u64 {
    flags | (iopl as u64) << 12
}

/// The flags that are clear when a handler begins.
pub(super) const CLEARED: u64 = rflags::TF | rflags::NT | rflags::RF | rflags::VM | rflags::AC;

/// Lets the vCPU continue at the kernel's handler, with the frame at `sp`.
#[inline(always)] // a part of `deliver`
pub(super) fn begin(vcpu: &Vcpu, regs: &mut TrapFrame, bounce: Bounce, sp: u64) {
    if bounce.masks_events {
        vcpu.info.upcall_mask().store(1, Ordering::Relaxed);
    }
    regs.vector |= TrapFrame::SYSCALL;
    regs.rsp = sp;
    regs.ss = u64::from(FLAT_KERNEL_SS);
    regs.cs = u64::from(FLAT_KERNEL_CS);
    regs.rip = bounce.entry;
    regs.rflags &= !CLEARED;
}

/// Enters the guest's kernel, or ends a domain that can't be entered.
#[inline(always)] // see `deliver`
pub fn bounce(ctx: &mut Ctx<'_>, bounce: Bounce) {
    if let Err(stuck) = deliver(ctx, bounce) {
        stop(ctx.reborrow(), stuck);
    }
}

/// Injects exception `number` with the error code that is in the trap frame.
#[inline]
pub fn inject(ctx: &mut Ctx<'_>, number: u8) {
    let error = has_error_code(number).then_some(ctx.regs.error);
    bounce(ctx, Bounce::exception(ctx.st, number, error));
}

/// Ends the domain of a vCPU that can neither enter its kernel nor leave it.
#[cold]
#[inline(never)]
pub fn stop(mut ctx: Ctx<'_>, stuck: Stuck) {
    if let Err(stuck) = otherwise(&mut ctx, stuck) {
        end(&mut ctx, stuck.why());
    }
}

/// Enters the kernel of a vCPU that [`deliver`] could not enter, if that is because its guest is narrow.
///
/// # Errors
/// See [`Stuck`].
pub fn otherwise(ctx: &mut Ctx<'_>, stuck: Stuck) -> Result<(), Stuck> {
    match stuck {
        Stuck::NoHandler(cause) if ctx.st.pv().width == Width::Narrow => {
            narrow::frame::deliver(ctx, cause)
        }
        stuck => Err(stuck),
    }
}

/// Logs the registers of the vCPU and ends its domain.
#[cold]
pub fn end(ctx: &mut Ctx<'_>, why: &'static str) {
    ctx.log_registers();
    crash(ctx.dom, why);
}
