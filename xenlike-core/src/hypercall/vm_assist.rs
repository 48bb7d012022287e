//! vm_assist: optional behaviours that a domain turns on or off for itself.

use crate::kit::atomic::Ordering;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::xen::{VMASST_CMD_DISABLE, VMASST_CMD_ENABLE};

use super::Ctx;
use super::arguments::VmAssist;
use crate::pv::state::ASSISTS;

/// `vm_assist(cmd, type)`: enables or disables one of them. EINVAL for an unknown type.
pub fn call(ctx: &mut Ctx<'_>, args: &VmAssist) -> Result<(), Errno> {
    let bit = 1_u64
        .checked_shl(args.assist)
        .filter(|bit| bit & ASSISTS != 0);
    let bit = bit.ok_or(errno::EINVAL)?;
    match args.cmd {
        VMASST_CMD_ENABLE => ctx.dom.assist.fetch_or(bit, Ordering::Relaxed),
        VMASST_CMD_DISABLE => ctx.dom.assist.fetch_and(!bit, Ordering::Relaxed),
        _ => return Err(errno::ENOSYS),
    };
    Ok(())
}
