//! Guest kernel mode and guest user mode: both are ring 3, so the mode decides which page table and
//! which GS base hold. User mode never runs on the kernel's L4.

use super::State;
use crate::arch::frame::Mode;
use crate::arch::seg;
use crate::kit::{DomId, Mfn};
use crate::mm::space::{self, Root};
use crate::pagetype::{Refused, Work, machine};

/// The guest never gave a page table for the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPageTable;

/// Guest kernel → guest user, for the vCPU that runs on this CPU.
#[inline]
pub fn enter_user(st: &mut State) -> Result<(), NoPageTable> {
    if st.mode == Mode::User {
        return Ok(());
    }
    let root = st.user_root.ok_or(NoPageTable)?;
    st.mode = Mode::User;
    seg::swap_gs();
    space::load(root);
    Ok(())
}

/// Guest user → guest kernel, for the vCPU that runs on this CPU, in user mode.
#[inline]
pub fn enter_kernel(st: &mut State) -> Result<(), NoPageTable> {
    debug_assert!(st.mode == Mode::User);
    let root = st.kernel_root.ok_or(NoPageTable)?;
    st.mode = Mode::Kernel;
    seg::swap_gs();
    space::load(root);
    Ok(())
}

/// Takes the references of a frame of `owner` as the root of an address space, to be given back by
/// `put_root`.
///
/// # Errors
/// As `get_root`.
pub fn take_root(l4: Mfn, owner: DomId, work: &mut Work) -> Result<Root, Refused> {
    machine().get_root(l4, owner, work)?;
    let root = Root::of(l4);
    if root.is_none() {
        let _ = machine().put_root(l4, work);
    }
    root.ok_or(Refused::Invalid)
}
