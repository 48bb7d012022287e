//! Guest kernel mode and guest user mode: both are ring 3, so the mode decides which page table and
//! which GS base hold. User mode never runs on the kernel's L4.

#![expect(unsafe_code, reason = "vouches for the tables under a guest's root")]

use super::State;
use crate::arch::cr3::{self, RunRoot};
use crate::arch::frame::Mode;
use crate::arch::seg;
use crate::pagetype::GuestRoot;

/// The guest never gave a page table for the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPageTable;

/// Guest kernel → guest user, for the vCPU that runs on this CPU.
#[inline]
pub fn enter_user(st: &mut State) -> Result<(), NoPageTable> {
    if st.mode == Mode::User {
        return Ok(());
    }
    let root = run_root(st.user_root.as_ref().ok_or(NoPageTable)?);
    st.mode = Mode::User;
    seg::swap_gs();
    cr3::load(root);
    Ok(())
}

/// Guest user → guest kernel, for the vCPU that runs on this CPU, in user mode.
#[inline]
pub fn enter_kernel(st: &mut State) -> Result<(), NoPageTable> {
    debug_assert!(st.mode == Mode::User);
    let root = run_root(st.kernel_root.as_ref().ok_or(NoPageTable)?);
    st.mode = Mode::Kernel;
    seg::swap_gs();
    cr3::load(root);
    Ok(())
}

/// What a CPU runs on when a vCPU is in the address space under `root`: the guest's own table.
#[inline]
pub const fn run_root(root: &GuestRoot) -> RunRoot {
    // SAFETY: a validated L4 has the hypervisor's slots, and the root's references keep it one. They are given back
    // only after every CPU has left the table.
    unsafe { RunRoot::new(root.maddr()) }
}
