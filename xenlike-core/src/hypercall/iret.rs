//! iret: the guest kernel's return from a trap, and its only way into guest user mode.

use crate::kit::atomic::Ordering;

use guest_pv_abi::arch_x86::{FLAT_RING3_CS64, IretContext, VGCF_IN_SYSCALL};
use guest_pv_abi::xen::VMASST_TYPE_ARCHITECTURAL_IOPL;

use super::arguments::Nothing;
use super::{Ctx, Outcome};
use crate::arch::frame::TrapFrame;
use crate::arch::rflags;
use crate::domain::notify;
use crate::kit::Vaddr;
use crate::pv::bounce::Stuck;
use crate::pv::narrow;
use crate::pv::state::{in_ring3, mode};

/// `iret()`: loads the registers from the frame on the guest's stack (`struct iret_context`), so the call has no
/// result of its own.
#[inline(always)] // hot: every trap return takes this path
pub fn call(ctx: &mut Ctx<'_>, _: &Nothing) -> Outcome {
    outcome(go_back(ctx))
}

/// The same for a narrow guest.
pub fn call_narrow(ctx: &mut Ctx<'_>) -> Outcome {
    outcome(narrow::iret::go_back(ctx))
}

#[inline(always)] // see above
const fn outcome(back: Result<(), Stuck>) -> Outcome {
    match back {
        Ok(()) => Outcome::Replaced,
        Err(stuck) => Outcome::Crash(stuck.why()),
    }
}

#[inline(always)] // see above
fn go_back(ctx: &mut Ctx<'_>) -> Result<(), Stuck> {
    let frame = ctx.guest().read_as_is::<IretContext>(Vaddr(ctx.regs.rsp));
    let frame = frame.map_err(|_| Stuck::BadFrame)?;
    let (vcpu, st, regs) = (ctx.vcpu, &mut *ctx.st, &mut *ctx.regs);
    // Selectors are forced to ring 3 whatever RPL the guest wrote, so a guest can't name a more privileged ring.
    if frame.cs & 3 == 3 {
        mode::enter_user(st.pv_mut()).map_err(|_| Stuck::NoUserTable)?;
    }
    if frame.flags & VGCF_IN_SYSCALL == 0 || in_ring3(frame.cs as u16) != FLAT_RING3_CS64 {
        // SYSRET destroys rcx and r11, and returns only to flat 64-bit code, so the exit must use IRET here.
        regs.vector &= !TrapFrame::SYSCALL;
        regs.rcx = frame.rcx;
        regs.r11 = frame.r11;
    }
    if ctx.dom.assists(VMASST_TYPE_ARCHITECTURAL_IOPL) {
        st.pv_mut().iopl = (frame.rflags >> 12 & 3) as u8;
    }
    regs.rip = frame.rip;
    regs.cs = u64::from(in_ring3(frame.cs as u16));
    regs.rflags = frame.rflags & rflags::GUEST_SETTABLE | rflags::ALWAYS_ON | rflags::IF;
    regs.rsp = frame.rsp;
    regs.ss = u64::from(in_ring3(frame.ss as u16));
    regs.rax = frame.rax;
    if st.kind.nmi_masked() {
        notify::unmask_nmi(vcpu, st);
    }
    let masked = frame.rflags & rflags::IF == 0;
    vcpu.info
        .upcall_mask()
        .store(masked.into(), Ordering::Relaxed);
    Ok(())
}
