//! The first registers of a further vCPU of a 32-bit guest.

#![expect(unsafe_code, reason = "an entry point in assembly")]

use core::arch::global_asm;

use guest_pv_abi::arch_x86::{
    FLAT_KERNEL_CS, FLAT_KERNEL_DS, FLAT_KERNEL_SS, VGCF_IN_KERNEL, VcpuGuestContext, pfn_to_cr3,
};

use super::traps;
use crate::smp::secondary;

global_asm!(
    r#"
    .pushsection .text.smp, "ax", @progbits
    .global xenlike_rt_secondary_entry
    xenlike_rt_secondary_entry:
        cld
        xor ebp, ebp
        sub esp, 12
        push ebx
        call {secondary}
        ud2
    .popsection
    "#,
    secondary = sym secondary,
);

unsafe extern "C" {
    safe static xenlike_rt_secondary_entry: u8;
}

/// Makes a vCPU call `secondary` with `main` on the stack that ends at `top`, under the root table in frame `root`.
pub(crate) fn fill(context: &mut VcpuGuestContext, main: usize, top: u64, root: u64) {
    context.flags = VGCF_IN_KERNEL as u32;
    context.user_regs.eip = core::ptr::from_ref(&xenlike_rt_secondary_entry).addr() as u32;
    context.user_regs.esp = top as u32;
    context.user_regs.ebx = main as u32;
    context.user_regs.cs = FLAT_KERNEL_CS;
    context.user_regs.ss = FLAT_KERNEL_SS;
    context.user_regs.ds = FLAT_KERNEL_DS;
    context.user_regs.es = FLAT_KERNEL_DS;
    context.kernel_ss = FLAT_KERNEL_SS.into();
    context.kernel_sp = top as u32;
    context.ctrlreg[3] = pfn_to_cr3(root as u32);
    [context.event_callback, context.failsafe_callback] = traps::callbacks();
}
