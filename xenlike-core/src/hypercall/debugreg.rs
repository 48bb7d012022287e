//! set_debugreg and get_debugreg. Breakpoints in the hypervisor's address range are refused, so that a guest can't
//! trap the core itself.

use guest_pv_abi::errno::{self, Errno};

use super::Ctx;
use super::arguments::{GetDebugreg, SetDebugreg};
use crate::domain::debug;

/// `set_debugreg(register, value)`: sets one of the calling vCPU's debug registers.
pub fn set(ctx: &mut Ctx<'_>, args: &SetDebugreg) -> Result<(), Errno> {
    debug::set(ctx.st, args.register.into(), args.value as u64).map_err(|refused| match refused {
        debug::NotSet::NoRegister => errno::ENODEV,
        debug::NotSet::Invalid => errno::EINVAL,
        debug::NotSet::NotAllowed => errno::EPERM,
    })
}

/// `get_debugreg(register)`: reads one of the calling vCPU's debug registers.
pub fn get(ctx: &mut Ctx<'_>, args: &GetDebugreg) -> Result<i64, Errno> {
    let index = debug::index(args.register.into(), ctx.st.kind.cr4());
    let value = index.and_then(|index| ctx.st.debug.get(index));
    value.map(|&value| value as i64).ok_or(errno::ENODEV)
}
