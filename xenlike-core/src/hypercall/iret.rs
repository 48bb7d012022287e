//! iret: the guest kernel's way back from a trap, and its only way into guest user mode.

use core::sync::atomic::Ordering;

use guest_pv_abi::arch_x86::{FLAT_RING3_CS64, VGCF_IN_SYSCALL};

use super::{Ctx, Outcome};
use crate::arch::frame::TrapFrame;
use crate::arch::rflags;
use crate::domain::mode;
use crate::kit::Vaddr;
use crate::mm::guest_stack;

/// `iret()`: the frame is on the guest's stack (`struct iret_context`).
#[inline]
pub fn call(ctx: &mut Ctx<'_>) -> Outcome {
    let Ok(frame) = guest_stack::iret_frame(Vaddr(ctx.regs.rsp)) else {
        return Outcome::Crash(&"iret: the frame on the guest's stack can't be read");
    };
    // The selectors get ring 3 whatever the guest wrote: it never names a ring below its own.
    if frame.cs & 3 == 3 && mode::enter_user(ctx.st).is_err() {
        return Outcome::Crash(&"iret: to user mode without a user page table");
    }
    let regs = &mut *ctx.regs;
    if frame.flags & VGCF_IN_SYSCALL == 0 || frame.cs as u16 | 3 != FLAT_RING3_CS64 {
        // SYSRET leaves neither rcx nor r11 alone, and leads to flat 64-bit code only.
        regs.vector &= !TrapFrame::SYSCALL;
        regs.rcx = frame.rcx;
        regs.r11 = frame.r11;
    }
    if ctx
        .dom
        .assists(guest_pv_abi::xen::VMASST_TYPE_ARCHITECTURAL_IOPL)
    {
        ctx.st.iopl = (frame.rflags >> 12 & 3) as u8;
    }
    regs.rip = frame.rip;
    regs.cs = frame.cs & 0xffff | 3;
    regs.rflags = frame.rflags & rflags::GUEST_SETTABLE | rflags::ALWAYS_ON | rflags::IF;
    regs.rsp = frame.rsp;
    regs.ss = frame.ss & 0xffff | 3;
    regs.rax = frame.rax;
    let masked = frame.rflags & rflags::IF == 0;
    ctx.vcpu
        .info
        .upcall_mask()
        .store(masked.into(), Ordering::Relaxed);
    Outcome::Replaced
}
