//! Kernel mode and user mode of a guest. Both run in ring 3, so the mode is the hypervisor's notion: it decides which
//! address space and which base of gs are loaded. User mode never runs on the kernel's L4.

#![expect(unsafe_code, reason = "vouches for the tables under a guest's root")]

use super::State;
use super::monitor::Monitor;
use crate::arch::cr3::{self, RunRoot};
use crate::arch::frame::Mode;
use crate::arch::seg;
use crate::kit::Maddr;
use crate::pagetype::GuestRoot;

/// The guest has set no root for the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPageTable;

/// Only wide guests switch between two address spaces.
const NO_MONITOR: Option<&Monitor> = None;

/// Switches the vCPU that runs on this CPU to user mode, if it isn't there yet.
#[inline]
pub fn enter_user(st: &mut State) -> Result<(), NoPageTable> {
    if st.mode == Mode::User {
        return Ok(());
    }
    let root = run_root(st.user_root.as_ref(), NO_MONITOR)?;
    st.mode = Mode::User;
    seg::swap_gs();
    cr3::load(root);
    Ok(())
}

/// Switches the vCPU that runs on this CPU, in user mode, to kernel mode.
#[inline]
pub fn enter_kernel(st: &mut State) -> Result<(), NoPageTable> {
    debug_assert!(st.mode == Mode::User);
    let root = run_root(st.kernel_root.as_ref(), NO_MONITOR)?;
    st.mode = Mode::Kernel;
    seg::swap_gs();
    cr3::load(root);
    Ok(())
}

/// The tables on which a CPU runs while a vCPU is in the address space under `root`: those of a wide guest itself, or the
/// vCPU's monitor, which shows a narrow guest's. The vCPU runs on this CPU, which loads the result before the references
/// of the previous root are dropped.
#[inline]
pub fn run_root(
    root: Option<&GuestRoot>,
    monitor: Option<&Monitor>,
) -> Result<RunRoot, NoPageTable> {
    let table = match root.and_then(GuestRoot::wide) {
        Some(l4) => l4,
        None => monitor.zip(root).ok_or(NoPageTable).map(monitored)?,
    };
    // SAFETY: a validated L4 has the hypervisor's slots, and so has a monitor. The references of `root` keep its table
    // validated. They are dropped only after every CPU has left the table, and so is the monitor.
    Ok(unsafe { RunRoot::new(table) })
}

#[inline(never)] // keeps the path of wide guests short
fn monitored((monitor, root): (&Monitor, &GuestRoot)) -> Maddr {
    monitor.show(root)
}
