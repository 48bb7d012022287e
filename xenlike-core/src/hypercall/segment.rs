//! stack_switch, fpu_taskswitch and set_segment_base: the short calls that a PV Linux makes on context switches.

use guest_pv_abi::arch_x86::{SEGBASE_FS, SEGBASE_GS_KERNEL, SEGBASE_GS_USER, SEGBASE_GS_USER_SEL};
use guest_pv_abi::errno::{self, Errno};

use super::Ctx;
use super::arguments::{FpuTaskswitch, SetSegmentBase, StackSwitch};
use crate::arch::cr::cr0;
use crate::arch::seg::{self, Base};
use crate::domain::{Domain, Vcpu, VcpuState};
use crate::pv::state::ldt;

/// `stack_switch(ss, esp)`: sets the stack on which traps from guest user mode enter the guest kernel.
pub fn stack_switch(ctx: &mut Ctx<'_>, args: &StackSwitch) -> Result<(), Errno> {
    let pv = ctx.st.pv_mut();
    pv.kernel_ss = args.ss;
    pv.kernel_sp = args.sp as u64;
    Ok(())
}

/// `fpu_taskswitch(set)`: sets or clears CR0.TS in the guest's view and in hardware, so that the next FPU instruction
/// after setting it raises #NM in the guest.
pub fn fpu_taskswitch(ctx: &mut Ctx<'_>, args: &FpuTaskswitch) -> Result<(), Errno> {
    ctx.st
        .pv_mut()
        .set_cr0(if args.set != 0 { cr0::TS } else { 0 });
    Ok(())
}

/// `set_segment_base(which, base)`: sets the base of FS or GS, or loads the user GS selector.
pub fn set_base(ctx: &mut Ctx<'_>, args: &SetSegmentBase) -> Result<(), Errno> {
    let base = args.base;
    let register = match args.which {
        SEGBASE_FS => Base::Fs,
        SEGBASE_GS_USER => Base::ShadowGs,
        SEGBASE_GS_KERNEL => Base::Gs,
        SEGBASE_GS_USER_SEL => {
            load_user_gs(ctx.vcpu, ctx.dom, ctx.st, base.0 as u16);
            return Ok(());
        }
        _ => return Err(errno::EINVAL),
    };
    // Loading a non-canonical base would fault at the next switch (APM vol. 2 §4.5.3).
    if !base.is_canonical() {
        return Err(errno::EINVAL);
    }
    seg::set_base(register, base.0);
    Ok(())
}

/// Loads the user GS selector. As in Xen, a selector that can't be loaded leaves the null selector without an error.
#[inline(never)] // cold; takes parts of `Ctx`, so that the hot callers never build one
fn load_user_gs(vcpu: &Vcpu, dom: &Domain, st: &mut VcpuState, selector: u16) {
    ldt::bring_in(&dom.pages, vcpu.id, st.pv(), selector);
    let _ = seg::load_user_gs(selector);
}
