//! Debug registers of a guest: what it may set them to, so that it never debugs the core.

use crate::arch::debugreg::DebugRegisters;
use crate::kit::Vaddr;
use crate::mm::layout;

/// DR6 bits that are always 1 (APM vol. 2 §13.1.1.3).
const DR6_FIXED: u64 = 0xffff_0ff0;
/// DR6 bits that a guest may set: B0–B3, BD, BS.
const DR6_SETTABLE: u64 = 0xe00f;
/// B0–B3.
const DR6_BREAKPOINTS: u64 = 0xf;
/// DR7 bits that are 1, and those that may be (§13.1.1.4).
const DR7_FIXED: u64 = 0x400;
const DR7_SETTABLE: u64 = 0xffff_0fff & !(1 << 11);
const DR7_GENERAL_DETECT: u64 = 1 << 13;
/// R/W field 0b10: an I/O breakpoint.
const IO_BREAKPOINT: u64 = 2;

/// A breakpoint that a guest may not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAllowed;

/// A breakpoint's address: a guest's.
pub const fn address(value: u64) -> Result<u64, NotAllowed> {
    if layout::guest_range(Vaddr(value), 1) {
        Ok(value)
    } else {
        Err(NotAllowed)
    }
}

/// DR6 as a guest may have it.
pub const fn dr6(value: u64) -> u64 {
    value & DR6_SETTABLE | DR6_FIXED
}

/// DR6 after a #DB of which hardware says `new`: breakpoints are the latest ones, all else adds up (SDM vol. 3
/// §18.2.3).
pub const fn merged_dr6(old: u64, new: u64) -> u64 {
    old & !DR6_BREAKPOINTS | new
}

/// DR7 as the hardware may have it.
pub fn dr7(value: u64) -> Result<u64, NotAllowed> {
    let field = |at: u32| value.wrapping_shr(at) & 3;
    let io = |n: u32| {
        let kind = field(n.wrapping_mul(4).wrapping_add(16));
        kind == IO_BREAKPOINT && field(n.wrapping_mul(2)) != 0
    };
    if value >> 32 != 0 || value & DR7_GENERAL_DETECT != 0 || (0..4).any(io) {
        return Err(NotAllowed);
    }
    Ok(value & DR7_SETTABLE | DR7_FIXED)
}

/// All of them.
pub fn checked(addresses: [u64; 4], six: u64, seven: u64) -> Result<DebugRegisters, NotAllowed> {
    let [a, b, c, d] = addresses;
    Ok([
        address(a)?,
        address(b)?,
        address(c)?,
        address(d)?,
        dr6(six),
        dr7(seven)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dr6_has_the_latest_breakpoints_and_every_step() {
        const STEP: u64 = 1 << 14;
        let hit = merged_dr6(DR6_FIXED, 1);
        assert_eq!(hit, DR6_FIXED | 1);
        assert_eq!(merged_dr6(hit, STEP), DR6_FIXED | STEP);
        assert_eq!(merged_dr6(DR6_FIXED | STEP, 4), DR6_FIXED | STEP | 4);
        assert_eq!(merged_dr6(hit, 0), DR6_FIXED);
    }

    #[test]
    fn dr7_keeps_out_what_reaches_beyond_the_guest() {
        assert_eq!(dr7(1 << 13), Err(NotAllowed));
        assert_eq!(dr7(1 | 2 << 16), Err(NotAllowed));
        assert_eq!(dr7(2 << 16), Ok(2 << 16 | 0x400));
        assert_eq!(dr7(1 << 32), Err(NotAllowed));
        assert_eq!(dr7(0), Ok(0x400));
    }

    #[test]
    fn nobody_breaks_into_the_core() {
        assert!(checked([0, 0, layout::DIRECT_MAP, 0], 0, 0).is_err());
        assert!(checked([0, 0x1000, u64::MAX, 0], 0, 0).is_ok());
    }
}
