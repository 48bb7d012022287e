//! The failsafe callback: the guest's registers name segments or an address that can't be loaded.

use guest_pv_abi::arch_x86::FLAT_KERNEL_SS;

use super::syscall;
use crate::arch::seg;
use crate::domain::trap::Bounce;
use crate::hypercall::Ctx;

/// Enters the failsafe callback with the selectors that the guest wanted. A guest whose failing
/// frame was its own handler's would come here for ever: it has a kernel stack, or it ends.
pub fn enter(ctx: &mut Ctx<'_>) {
    let segments = seg::selectors();
    let callback = ctx.st.callbacks.failsafe;
    let bounce = Bounce {
        selectors: Some(segments),
        ..callback.into()
    };
    ctx.regs.ss = ctx.regs.ss & 0xffff | 3;
    if ctx.regs.ss == 3 {
        ctx.regs.ss = u64::from(FLAT_KERNEL_SS);
    }
    syscall::bounce(ctx, bounce);
}
