//! set_debugreg and get_debugreg. DR7 is the guest's word on breakpoints; those in the hypervisor's
//! range are refused, so that it never debugs the core.

use guest_pv_abi::errno::{self, Errno};

use super::{Args, Ctx};
use crate::arch::debugreg;
use crate::domain::debug;

/// `set_debugreg(register, value)`.
pub fn set(ctx: &mut Ctx<'_>, args: Args) -> Result<(), Errno> {
    let [register, value, ..] = args.0;
    let index = debug::index(register, ctx.st.cr4).ok_or(errno::ENODEV)?;
    let value = match index {
        0..=3 => debug::address(value).map_err(|_| errno::EPERM)?,
        // The upper halves must be zero (APM vol. 2 §13.1.1.3).
        _ if value >> 32 != 0 => return Err(errno::EINVAL),
        4 => debug::dr6(value),
        _ => debug::dr7(value, ctx.st.cr4).map_err(|_| errno::EPERM)?,
    };
    if let Some(slot) = ctx.st.debug.get_mut(index) {
        *slot = value;
    }
    debugreg::load(&ctx.st.debug);
    Ok(())
}

/// `get_debugreg(register)`.
pub fn get(ctx: &mut Ctx<'_>, args: Args) -> Result<i64, Errno> {
    let index = debug::index(args.0[0], ctx.st.cr4);
    let value = index.and_then(|index| ctx.st.debug.get(index));
    value.map(|&value| value as i64).ok_or(errno::ENODEV)
}
