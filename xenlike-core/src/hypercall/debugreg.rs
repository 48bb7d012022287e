//! set_debugreg and get_debugreg. DR7 is the guest's word on breakpoints; those in the hypervisor's
//! range are refused, so that it never debugs the core.

use guest_pv_abi::errno::{self, Errno};

use super::Ctx;
use super::arguments::{GetDebugreg, SetDebugreg};
use crate::domain::debug;

/// `set_debugreg(register, value)`.
pub fn set(ctx: &mut Ctx<'_>, args: &SetDebugreg) -> Result<(), Errno> {
    debug::set(ctx.st, args.register, args.value).map_err(|refused| match refused {
        debug::NotSet::NoRegister => errno::ENODEV,
        debug::NotSet::Invalid => errno::EINVAL,
        debug::NotSet::NotAllowed => errno::EPERM,
    })
}

/// `get_debugreg(register)`.
pub fn get(ctx: &mut Ctx<'_>, args: &GetDebugreg) -> Result<i64, Errno> {
    let index = debug::index(args.register, ctx.st.kind.cr4());
    let value = index.and_then(|index| ctx.st.debug.get(index));
    value.map(|&value| value as i64).ok_or(errno::ENODEV)
}
