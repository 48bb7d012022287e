//! The first registers of a further vCPU of a 64-bit guest.

#![expect(unsafe_code, reason = "an entry point in assembly")]

use core::arch::global_asm;

use guest_pv_abi::arch_x86::{
    FLAT_KERNEL_CS64, FLAT_KERNEL_SS64, VGCF_IN_KERNEL, VcpuGuestContext,
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
    context.flags = VGCF_IN_KERNEL;
    context.user_regs.rip = core::ptr::from_ref(&xenlike_rt_secondary_entry).addr() as u64;
    context.user_regs.rsp = top;
    context.user_regs.rdi = main as u64;
    context.user_regs.cs = FLAT_KERNEL_CS64;
    context.user_regs.ss = FLAT_KERNEL_SS64;
    context.kernel_ss = u64::from(FLAT_KERNEL_SS64);
    context.kernel_sp = top;
    context.ctrlreg[3] = root << 12;
    let [event, failsafe, syscall] = traps::callbacks();
    context.event_callback_eip = event;
    context.failsafe_callback_eip = failsafe;
    context.syscall_callback_eip = syscall;
}
