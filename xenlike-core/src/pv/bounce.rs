//! Bounce frames: how an exception, a system call or an event enters the guest kernel.
//!
//! The frame is what the PV ABI says (xen-x86_64.h): from the stack pointer up rcx, r11, [error code,]
//! rip, cs with the saved upcall mask in bits 32–39, rflags, rsp, ss.

use crate::kit::atomic::Ordering;

use guest_pv_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use guest_pv_abi::xen::VMASST_TYPE_ARCHITECTURAL_IOPL;

use super::state::{Callback, masks_events, mode};
use crate::arch::exception::has_error_code;
use crate::arch::frame::{Mode, TrapFrame};
use crate::arch::rflags;
use crate::domain::shutdown::crash;
use crate::domain::{Ctx, Domain, Vcpu, VcpuState};
use crate::kit::Vaddr;
use crate::mm::guest_copy;
use crate::mm::guest_stack::{self, Told};

/// Why a vCPU can neither enter its kernel nor leave it: its domain can't go on then, as on Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// An exception or event has no handler.
    NoHandler,
    /// Segments can't be loaded, and there is no failsafe callback.
    NoFailsafe,
    /// A trap from user mode finds no page table of the kernel's.
    NoKernelTable,
    /// The kernel's stack can't be written.
    BadStack,
    /// The frame for iret can't be read.
    BadFrame,
    /// iret leads to user mode, which has no page table.
    NoUserTable,
}

impl Stuck {
    /// A sentence for the log.
    pub const fn why(self) -> &'static &'static str {
        match self {
            Self::NoHandler => &"an exception or event has no handler registered in the guest",
            Self::NoFailsafe => &"segments can't be loaded, and the guest has no failsafe callback",
            Self::NoKernelTable => &"no kernel page table for a trap from user mode",
            Self::BadStack => &"the guest kernel's stack can't be written for a trap",
            Self::BadFrame => &"iret: the frame on the guest's stack can't be read",
            Self::NoUserTable => &"iret: to user mode without a user page table",
        }
    }
}

/// Where and how to enter the guest kernel.
#[derive(Clone, Copy, Debug)]
pub struct Bounce {
    /// Handler.
    pub entry: u64,
    /// Error code, for exceptions that have one.
    pub error: Option<u32>,
    /// Event delivery is masked on entry.
    pub masks_events: bool,
}

impl From<Callback> for Bounce {
    #[inline]
    fn from(callback: Callback) -> Self {
        Self {
            masks_events: callback.masks_events != 0,
            ..Self::to(callback.entry)
        }
    }
}

impl Bounce {
    /// To `entry`, with nothing special.
    #[inline]
    pub const fn to(entry: u64) -> Self {
        Self {
            entry,
            error: None,
            masks_events: false,
        }
    }

    /// Exception `vector` by the guest's trap table, with an error code if it [has one](has_error_code).
    #[inline]
    pub fn exception(st: &VcpuState, vector: u8, error: Option<u32>) -> Self {
        let trap = st.pv().traps.get(usize::from(vector));
        Self {
            entry: trap.map_or(0, |t| t.address),
            error,
            masks_events: trap.is_some_and(masks_events),
        }
    }
}

/// Makes the vCPU that runs on this CPU enter its kernel as `bounce` says.
///
/// # Errors
/// See [`Stuck`].
#[inline(always)] // what is known of `bounce` where it comes from need not be looked at
pub fn deliver(
    dom: &Domain,
    vcpu: &Vcpu,
    st: &mut VcpuState,
    regs: &mut TrapFrame,
    bounce: Bounce,
) -> Result<(), Stuck> {
    let from = st.pv().mode;
    deliver_from(from, dom, vcpu, st, regs, bounce)
}

/// Likewise from a mode that is known.
///
/// # Errors
/// See [`Stuck`].
#[inline(always)] // as `deliver`
pub fn deliver_from(
    from: Mode,
    dom: &Domain,
    vcpu: &Vcpu,
    st: &mut VcpuState,
    regs: &mut TrapFrame,
    bounce: Bounce,
) -> Result<(), Stuck> {
    if bounce.entry == 0 {
        return Err(Stuck::NoHandler);
    }
    let (top, told) = interrupt(from, dom, vcpu, st, regs)?;
    let error = bounce.error;
    let sp = guest_stack::push(top, regs, Told { error, ..told }).map_err(|_| Stuck::BadStack)?;
    begin(vcpu, regs, bounce, sp);
    Ok(())
}

/// Likewise to the failsafe callback, whose frame has the selectors that could not be loaded, too, between
/// r11 and rip.
///
/// # Errors
/// As [`deliver`].
#[cold]
pub fn deliver_failsafe(
    dom: &Domain,
    vcpu: &Vcpu,
    st: &mut VcpuState,
    regs: &mut TrapFrame,
    [ds, es, fs, gs]: [u16; 4],
) -> Result<(), Stuck> {
    let bounce = Bounce::from(st.pv().callbacks.failsafe);
    if bounce.entry == 0 {
        return Err(Stuck::NoFailsafe);
    }
    let (top, told) = interrupt(st.pv().mode, dom, vcpu, st, regs)?;
    let words = [
        regs.rcx,
        regs.r11,
        ds.into(),
        es.into(),
        fs.into(),
        gs.into(),
        regs.rip,
        told.cs,
        told.rflags,
        regs.rsp,
        regs.ss & 0xffff,
    ];
    let sp = top.wrapping_sub(size_of_val(&words) as u64);
    guest_copy::write_words(Vaddr(sp), &words).map_err(|_| Stuck::BadStack)?;
    begin(vcpu, regs, bounce, sp);
    Ok(())
}

/// Brings the vCPU into its kernel's mode: where the frame of what was interrupted goes below, and what it
/// says of it.
#[inline(always)] // a part of `deliver`
fn interrupt(
    from: Mode,
    dom: &Domain,
    vcpu: &Vcpu,
    st: &mut VcpuState,
    regs: &TrapFrame,
) -> Result<(u64, Told), Stuck> {
    let (sp, cs) = match from {
        // Ring 0 in the saved selector tells the guest that it was its kernel.
        Mode::Kernel => (regs.rsp, regs.cs & 0xfffc),
        Mode::User => {
            mode::enter_kernel(st.pv_mut()).map_err(|_| Stuck::NoKernelTable)?;
            (st.pv().kernel_sp, regs.cs & 0xffff)
        }
    };
    let masked = vcpu.info.upcall_mask().load(Ordering::Relaxed);
    let mut flags = regs.rflags & !(rflags::IF | rflags::IOPL);
    if masked == 0 {
        flags |= rflags::IF;
    }
    if dom.assists(VMASST_TYPE_ARCHITECTURAL_IOPL) {
        flags = with_iopl(flags, st.pv().iopl);
    }
    let told = Told {
        cs: cs | u64::from(masked) << 32,
        rflags: flags,
        error: None,
    };
    Ok((sp & !15, told))
}

/// Flags with the privilege level that the guest believes to have, if it asked to be told (few do).
#[cold]
const fn with_iopl(flags: u64, iopl: u8) -> u64 {
    flags | (iopl as u64) << 12
}

/// Makes the kernel's handler go on, with its frame at `sp`.
#[inline(always)] // a part of `deliver`
fn begin(vcpu: &Vcpu, regs: &mut TrapFrame, bounce: Bounce, sp: u64) {
    if bounce.masks_events {
        vcpu.info.upcall_mask().store(1, Ordering::Relaxed);
    }
    regs.vector |= TrapFrame::SYSCALL;
    regs.rsp = sp;
    regs.ss = u64::from(FLAT_KERNEL_SS);
    regs.cs = u64::from(FLAT_KERNEL_CS);
    regs.rip = bounce.entry;
    regs.rflags &= !(rflags::TF | rflags::NT | rflags::RF | rflags::VM | rflags::AC);
}

/// Enters the guest kernel, or ends a domain that can't be entered.
#[inline(always)] // see `deliver`
pub fn bounce(ctx: &mut Ctx<'_>, bounce: Bounce) {
    if let Err(stuck) = deliver(ctx.dom, ctx.vcpu, ctx.st, ctx.regs, bounce) {
        stop(ctx.reborrow(), stuck);
    }
}

/// Gives exception `number` to the guest with the error code the machine gave.
#[inline]
pub fn inject(ctx: &mut Ctx<'_>, number: u8) {
    let error = has_error_code(number).then_some(ctx.regs.error);
    bounce(ctx, Bounce::exception(ctx.st, number, error));
}

/// Ends the domain of a vCPU that is stuck.
#[cold]
#[inline(never)]
pub fn stop(mut ctx: Ctx<'_>, stuck: Stuck) {
    end(&mut ctx, stuck.why());
}

/// Ends a domain that can't go on.
#[cold]
pub fn end(ctx: &mut Ctx<'_>, why: &'static str) {
    ctx.log_registers();
    crash(ctx.dom, why);
}
