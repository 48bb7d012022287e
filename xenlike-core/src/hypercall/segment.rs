//! stack_switch, fpu_taskswitch and set_segment_base: the small ones that every context switch of a
//! PV Linux makes.

use guest_pv_abi::arch_x86::{SEGBASE_FS, SEGBASE_GS_KERNEL, SEGBASE_GS_USER, SEGBASE_GS_USER_SEL};
use guest_pv_abi::errno::{self, Errno};

use super::{Args, Ctx};
use crate::arch::cr::{self, cr0::TS};
use crate::arch::seg;
use crate::domain::ldt;
use crate::domain::trap::fix_stack_selector;
use crate::kit::Vaddr;

/// `stack_switch(ss, esp)`: the stack that a trap out of guest user mode starts on.
pub fn stack_switch(ctx: &mut Ctx<'_>, args: Args) -> Result<(), Errno> {
    ctx.st.kernel_ss = fix_stack_selector(args.0[0] as u16);
    ctx.st.kernel_sp = args.0[1];
    Ok(())
}

/// `fpu_taskswitch(set)`: sets or clears CR0.TS as the guest sees it; the hardware's follows, so
/// that the next FPU instruction raises #NM in the guest.
pub fn fpu_taskswitch(ctx: &mut Ctx<'_>, args: Args) -> Result<(), Errno> {
    if args.0[0] != 0 {
        ctx.st.cr0 |= TS;
        cr::set_ts();
    } else {
        ctx.st.cr0 &= !TS;
        cr::clts();
    }
    Ok(())
}

/// `set_segment_base(which, base)`.
pub fn set_base(ctx: &mut Ctx<'_>, args: Args) -> Result<(), Errno> {
    let [which, base, ..] = args.0;
    if which == u64::from(SEGBASE_GS_USER_SEL) {
        ldt::bring_in(ctx.dom, ctx.vcpu, ctx.st, base as u16);
        // As on Xen, what can't be loaded leaves the null selector, and nobody is told.
        let _ = seg::load_user_gs(base as u16);
        return Ok(());
    }
    // A base outside the canonical ranges would fault at the next switch (APM vol. 2 §4.5.3).
    if !Vaddr(base).is_canonical() {
        return Err(errno::EINVAL);
    }
    match which as u32 {
        SEGBASE_FS => seg::set_fs_base(base),
        SEGBASE_GS_USER => seg::set_shadow_gs_base(base),
        SEGBASE_GS_KERNEL => seg::set_gs_base(base),
        _ => return Err(errno::EINVAL),
    }
    Ok(())
}
