//! set_debugreg and get_debugreg. DR7 is the guest's word on breakpoints; those in the hypervisor's
//! range are refused, so that it never debugs the core.

use guest_pv_abi::errno::{self, Errno};

use super::{Args, Ctx};
use crate::arch::debugreg;
use crate::kit::Vaddr;
use crate::mm::layout;

/// DR6 bits that are always 1 (APM vol. 2 §13.1.1.3).
const DR6_FIXED: u64 = 0xffff_0ff0;
/// DR6 bits that a guest may set: B0–B3, BD, BS.
const DR6_SETTABLE: u64 = 0xe00f;
/// DR7 bits that are 1, 0, and the general-detect bit (§13.1.1.4).
const DR7_FIXED: u64 = 0x400;
const DR7_SETTABLE: u64 = 0xffff_0fff & !(1 << 11);
const DR7_GENERAL_DETECT: u64 = 1 << 13;
/// R/W field 0b10: an I/O breakpoint.
const IO_BREAKPOINT: u64 = 2;

/// `set_debugreg(register, value)`.
pub fn set(ctx: &mut Ctx<'_>, args: Args) -> Result<(), Errno> {
    let [register, value, ..] = args.0;
    match register {
        0..=3 => {
            if !layout::guest_range(Vaddr(value), 8) {
                return Err(errno::EPERM);
            }
            if let Some(slot) = ctx.st.debug.get_mut(register as usize) {
                *slot = value;
            }
        }
        4 | 6 => ctx.st.debug[4] = value & DR6_SETTABLE | DR6_FIXED,
        5 | 7 => ctx.st.debug[5] = checked_dr7(value)?,
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
        _ => return Err(errno::EINVAL),
    };
    Ok(ctx.st.debug.get(index).copied().unwrap_or(0) as i64)
}

/// DR7 as the hardware may have it.
pub fn checked_dr7(value: u64) -> Result<u64, Errno> {
    if value >> 32 != 0 || value & DR7_GENERAL_DETECT != 0 {
        return Err(errno::EPERM);
    }
    let io = |n: u32| value >> (16 + 4 * n) & 3 == IO_BREAKPOINT && value >> (2 * n) & 3 != 0;
    if (0..4).any(io) {
        return Err(errno::EPERM);
    }
    Ok(value & DR7_SETTABLE | DR7_FIXED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dr7_keeps_out_what_reaches_beyond_the_guest() {
        assert_eq!(checked_dr7(1 << 13), Err(errno::EPERM));
        assert_eq!(checked_dr7(1 | 2 << 16), Err(errno::EPERM));
        assert_eq!(checked_dr7(2 << 16), Ok(2 << 16 | 0x400));
        assert_eq!(checked_dr7(1 << 32), Err(errno::EPERM));
        assert_eq!(checked_dr7(0), Ok(0x400));
    }
}
