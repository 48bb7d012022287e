//! Guest kernel mode and guest user mode: both are ring 3, so the mode decides which page table and
//! which GS base hold. User mode never runs on the kernel's L4.

use super::VcpuState;
use crate::arch::seg;
use crate::mm::space;

/// The guest never gave a page table for the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPageTable;

/// Guest kernel → guest user, for the vCPU that runs on this CPU.
pub fn enter_user(st: &mut VcpuState) -> Result<(), NoPageTable> {
    if !st.in_kernel {
        return Ok(());
    }
    let l4 = st.user_l4.ok_or(NoPageTable)?;
    st.in_kernel = false;
    seg::swap_gs();
    space::load(l4).map_err(|_| NoPageTable)
}

/// Guest user → guest kernel, for the vCPU that runs on this CPU.
pub fn enter_kernel(st: &mut VcpuState) -> Result<(), NoPageTable> {
    if st.in_kernel {
        return Ok(());
    }
    let l4 = st.kernel_l4.ok_or(NoPageTable)?;
    st.in_kernel = true;
    seg::swap_gs();
    space::load(l4).map_err(|_| NoPageTable)
}
