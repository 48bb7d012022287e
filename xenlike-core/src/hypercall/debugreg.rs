//! set_debugreg and get_debugreg. DR7 is the guest's word on breakpoints; those in the hypervisor's
//! range are refused, so that it never debugs the core.

use guest_pv_abi::errno::{self, Errno};

use super::{Args, Ctx};
use crate::arch::debugreg;
use crate::domain::debug;

/// `set_debugreg(register, value)`.
pub fn set(ctx: &mut Ctx<'_>, args: Args) -> Result<(), Errno> {
    let [register, value, ..] = args.0;
    match register {
        0..=3 => {
            let value = debug::address(value).map_err(|_| errno::EPERM)?;
            if let Some(slot) = ctx.st.debug.get_mut(register as usize) {
                *slot = value;
            }
        }
        // The upper halves must be zero (APM vol. 2 §13.1.1.3).
        4..=7 if value >> 32 != 0 => return Err(errno::EINVAL),
        4 | 6 => ctx.st.debug[4] = debug::dr6(value),
        5 | 7 => ctx.st.debug[5] = debug::dr7(value).map_err(|_| errno::EPERM)?,
        _ => return Err(errno::ENODEV),
    }
    debugreg::load(&ctx.st.debug);
    Ok(())
}

/// `get_debugreg(register)`.
pub fn get(ctx: &mut Ctx<'_>, args: Args) -> Result<i64, Errno> {
    let index = match args.0[0] {
        n @ 0..=3 => n as usize,
        4 | 6 => 4,
        5 | 7 => 5,
        _ => return Err(errno::ENODEV),
    };
    Ok(ctx.st.debug.get(index).copied().unwrap_or(0) as i64)
}
