//! vm_assist: switches of the domain's own making.

use crate::kit::atomic::Ordering;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::xen::{
    VMASST_CMD_DISABLE, VMASST_CMD_ENABLE, VMASST_TYPE_4GB_SEGMENTS,
    VMASST_TYPE_4GB_SEGMENTS_NOTIFY, VMASST_TYPE_ARCHITECTURAL_IOPL, VMASST_TYPE_PAE_EXTENDED_CR3,
    VMASST_TYPE_RUNSTATE_UPDATE_FLAG, VMASST_TYPE_WRITABLE_PAGETABLES,
};

use super::Ctx;
use super::arguments::VmAssist;

/// The assists of a 64-bit PV guest. The two on segments and the one on page tables have no effect
/// on 64 bits, where Xen accepts them too. `m2p_strict` is not among them: a kernel that asks for it
/// wants the machine-to-physical table out of its user mode's reach, and is told that it isn't.
pub const VALID: u64 = 1 << VMASST_TYPE_4GB_SEGMENTS
    | 1 << VMASST_TYPE_4GB_SEGMENTS_NOTIFY
    | 1 << VMASST_TYPE_WRITABLE_PAGETABLES
    | 1 << VMASST_TYPE_PAE_EXTENDED_CR3
    | 1 << VMASST_TYPE_ARCHITECTURAL_IOPL
    | 1 << VMASST_TYPE_RUNSTATE_UPDATE_FLAG;

/// `vm_assist(cmd, type)`.
pub fn call(ctx: &mut Ctx<'_>, args: &VmAssist) -> Result<(), Errno> {
    let bit = 1_u64
        .checked_shl(args.assist)
        .filter(|bit| bit & VALID != 0);
    let bit = bit.ok_or(errno::EINVAL)?;
    match args.cmd {
        VMASST_CMD_ENABLE => ctx.dom.assist.fetch_or(bit, Ordering::Relaxed),
        VMASST_CMD_DISABLE => ctx.dom.assist.fetch_and(!bit, Ordering::Relaxed),
        _ => return Err(errno::ENOSYS),
    };
    Ok(())
}
