//! iret of a narrow guest's kernel, in place of the instruction, which would leave the event mask as it is. On the stack
//! are eax, eip, cs, eflags, and, for a return to an outer ring, esp and ss.

use crate::kit::atomic::Ordering;

use guest_pv_abi::xen::VMASST_TYPE_ARCHITECTURAL_IOPL;

use super::super::bounce::{Cause, Stuck};
use super::frame::{Handler, begin, is_outer};
use crate::arch::frame::Mode;
use crate::arch::{exception, rflags};
use crate::domain::{Ctx, notify};
use crate::kit::Vaddr;

/// The bytes of eax, eip, cs and eflags.
const INNER_BYTES: u64 = 16;

/// Returns from the handler whose frame is on the kernel's stack.
///
/// # Errors
/// [`Stuck::BadFrame`]: the frame can't be read, or names a segment of ring 0.
pub fn go_back(ctx: &mut Ctx<'_>) -> Result<(), Stuck> {
    let at = Vaddr(ctx.regs.rsp & 0xffff_ffff);
    let frame = ctx.guest().read::<[u32; 4]>(at);
    let [eax, eip, cs, eflags] = frame.map_err(|_| Stuck::BadFrame)?;
    let stack = Vaddr(at.0.wrapping_add(INNER_BYTES));
    let flags = u64::from(eflags);
    if flags & rflags::VM != 0 {
        return refuse_vm86(ctx, at, eax);
    }
    let cs = u64::from(cs as u16);
    let (esp, ss) = match cs & 3 {
        0 => return Err(Stuck::BadFrame),
        _ if is_outer(cs) => {
            let outer = ctx.guest().read::<[u32; 2]>(stack);
            let [esp, ss] = outer.map_err(|_| Stuck::BadFrame)?;
            (u64::from(esp), u64::from(ss as u16))
        }
        _ => (stack.0 & 0xffff_ffff, ctx.regs.ss),
    };
    let (vcpu, st, regs) = (ctx.vcpu, &mut *ctx.st, &mut *ctx.regs);
    if ctx.dom.assists(VMASST_TYPE_ARCHITECTURAL_IOPL) {
        st.pv_mut().iopl = (flags >> 12 & 3) as u8;
    }
    (regs.rax, regs.rip, regs.cs) = (eax.into(), eip.into(), cs);
    (regs.rsp, regs.ss) = (esp, ss);
    regs.rflags = flags & rflags::GUEST_SETTABLE | rflags::ALWAYS_ON | rflags::IF;
    if st.kind.nmi_masked() {
        notify::unmask_nmi(vcpu, st);
    }
    st.pv_mut().mode = if is_outer(cs) {
        Mode::User
    } else {
        Mode::Kernel
    };
    let masked = flags & rflags::IF == 0;
    vcpu.info
        .upcall_mask()
        .store(masked.into(), Ordering::Relaxed);
    Ok(())
}

/// A return to virtual-8086 mode, which long mode doesn't have, raises #GP. As on Xen it appears to come from the first
/// instruction there: the frame stays where it is, and the error code takes the place of eax.
fn refuse_vm86(ctx: &mut Ctx<'_>, at: Vaddr, eax: u32) -> Result<(), Stuck> {
    let handler = Handler::of(ctx.st.pv(), Cause::Trap(exception::GP));
    let handler = handler.ok_or(Stuck::NoNarrowHandler)?;
    let pushed = ctx.guest().write(at, &0_u32);
    pushed.map_err(|_| Stuck::BadStack)?;
    (ctx.regs.rax, ctx.regs.rsp) = (eax.into(), at.0);
    begin(ctx, &handler);
    Ok(())
}
