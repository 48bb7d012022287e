//! The debug registers of a guest, and the values that it may set: none breaks into the hypervisor.

use super::VcpuState;
use crate::arch::cr::cr4;
use crate::arch::debugreg::{self, DebugRegisters, IO_BREAKPOINT};
use crate::kit::Vaddr;
use crate::mm::layout;

/// DR6 bits that are always 1 (APM vol. 2 §13.1.1.3).
const DR6_FIXED: u64 = 0xffff_0ff0;
/// The DR6 bits that a guest may set: B0–B3, BD, BS.
const DR6_SETTABLE: u64 = 0xe00f;
/// The DR6 bits of the four breakpoints, B0–B3.
const DR6_BREAKPOINTS: u64 = 0xf;
/// The DR7 bits that are always 1, and those that a guest may set (APM vol. 2 §13.1.1.4).
const DR7_FIXED: u64 = 0x400;
const DR7_SETTABLE: u64 = 0xffff_0fff & !(1 << 11);
const DR7_GENERAL_DETECT: u64 = 1 << 13;

/// The value would set a breakpoint that a guest may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAllowed;

/// Checks the address of a breakpoint, which has to be the guest's.
pub const fn address(value: u64) -> Result<u64, NotAllowed> {
    if layout::guest_range(Vaddr(value), 1) {
        Ok(value)
    } else {
        Err(NotAllowed)
    }
}

/// The value of DR6 when a guest sets it to `value`.
pub const fn dr6(value: u64) -> u64 {
    value & DR6_SETTABLE | DR6_FIXED
}

/// DR6 after a #DB for which the hardware reports `new`: breakpoints are replaced, other bits accumulate (SDM vol. 3, "Debug
/// Status Register (DR6)").
pub const fn merged_dr6(old: u64, new: u64) -> u64 {
    old & !DR6_BREAKPOINTS | new
}

/// The value of DR7 when a guest with this CR4 sets it to `value`. If any breakpoint is enabled, I/O breakpoints need CR4.DE,
/// also those that aren't enabled, as on Xen.
pub fn dr7(value: u64, cr4: u64) -> Result<u64, NotAllowed> {
    let io_without_de = cr4 & cr4::DE == 0
        && value & debugreg::ENABLES != 0
        && (0..4).any(|n| debugreg::kind(value, n) == IO_BREAKPOINT);
    if value >> 32 != 0 || value & DR7_GENERAL_DETECT != 0 || io_without_de {
        return Err(NotAllowed);
    }
    Ok(value & DR7_SETTABLE | DR7_FIXED)
}

/// The index of the debug register with this number: 4 and 5 are 6 and 7 while CR4.DE is clear (SDM vol. 3, "Debug
/// Registers DR4 and DR5").
pub const fn index(number: u64, cr4: u64) -> Option<usize> {
    match number {
        0..=3 => Some(number as usize),
        4 | 5 if cr4 & cr4::DE != 0 => None,
        4 | 6 => Some(4),
        5 | 7 => Some(5),
        _ => None,
    }
}

/// Why a debug register was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSet {
    /// There is no register with that number.
    NoRegister,
    /// The value has bits that are reserved.
    Invalid,
    /// A guest may not set that breakpoint.
    NotAllowed,
}

impl From<NotAllowed> for NotSet {
    fn from(_: NotAllowed) -> Self {
        Self::NotAllowed
    }
}

/// Sets debug register `number` of the vCPU that runs on this CPU.
///
/// # Errors
/// See [`NotSet`]; the register is unchanged then.
pub fn set(st: &mut VcpuState, number: u64, value: u64) -> Result<(), NotSet> {
    let index = index(number, st.kind.cr4()).ok_or(NotSet::NoRegister)?;
    let value = match index {
        0..=3 => address(value)?,
        // The upper halves must be zero (APM vol. 2 §13.1.1.3).
        _ if value >> 32 != 0 => return Err(NotSet::Invalid),
        4 => dr6(value),
        _ => dr7(value, st.kind.cr4())?,
    };
    if let Some(slot) = st.debug.get_mut(index) {
        *slot = value;
    }
    debugreg::load(&st.debug);
    Ok(())
}

/// The bits of DR6 for the I/O breakpoints that an access of `bytes` bytes at `port` hits.
#[inline]
pub fn io_hits(registers: &DebugRegisters, port: u16, bytes: u16) -> u64 {
    let [.., seven] = registers;
    match seven & debugreg::ENABLES {
        0 => 0,
        _ => enabled_io_hits(registers, port, bytes),
    }
}

#[cold]
#[inline(never)] // few guests have breakpoints
fn enabled_io_hits(registers: &DebugRegisters, port: u16, bytes: u16) -> u64 {
    let [addresses @ .., _, seven] = registers;
    let first = u64::from(port);
    let end = first.saturating_add(bytes.into());
    (0..4).zip(addresses).fold(0, |hits, (n, &at)| {
        let hit = debugreg::is_io(*seven, n)
            && at < end
            && at.saturating_add(debugreg::bytes(*seven, n)) > first;
        hits | u64::from(hit).wrapping_shl(n)
    })
}

/// Returns the debug registers of a restored vCPU. Values that a guest may not have are replaced by idle ones,
/// as on Xen.
pub fn restored(addresses: [u64; 4], six: u64, seven: u64, cr4: u64) -> DebugRegisters {
    let [a, b, c, d] = addresses.map(|at| address(at).unwrap_or(0));
    let seven = dr7(seven, cr4).unwrap_or(debugreg::DR7_IDLE);
    [a, b, c, d, dr6(six), seven]
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
    fn io_breakpoints_need_debugging_extensions() {
        assert_eq!(dr7(1 << 13, cr4::DE), Err(NotAllowed));
        assert_eq!(dr7(1 << 32, cr4::DE), Err(NotAllowed));
        assert_eq!(dr7(0, 0), Ok(0x400));
        // The enabled breakpoint is not the one of the I/O type.
        assert_eq!(dr7(2 << 20 | 1, 0), Err(NotAllowed));
        assert_eq!(dr7(2 << 20, 0), Ok(2 << 20 | 0x400));
        assert_eq!(dr7(2 << 20 | 4, cr4::DE), Ok(2 << 20 | 4 | 0x400));
    }

    #[test]
    fn hardware_has_no_io_breakpoints() {
        let seven = 0x400 | 2 << 16 | 1 << 20 | 0xf;
        assert_eq!(debugreg::without_io(seven), seven & !3);
        assert_eq!(debugreg::without_io(0x5ff), 0x5ff);
    }

    #[test]
    fn io_breakpoints_match_what_they_overlap() {
        // Breakpoint 0: two bytes at port 0x61. 1: a write to memory there. 2: one byte at port 0x64, disabled.
        let seven = 2 << 16 | 1 << 18 | 1 << 20 | 2 << 24 | 1 | 4;
        let hits = |port, bytes| io_hits(&[0x61, 0x61, 0x64, 0, 0, seven], port, bytes);
        assert_eq!(hits(0x5f, 2), 0);
        assert_eq!((hits(0x60, 2), hits(0x61, 1), hits(0x62, 1)), (1, 1, 1));
        assert_eq!((hits(0x63, 4), hits(u16::MAX, 1)), (0, 0));
        let four_bytes_at_the_end = 2 << 16 | 3 << 18 | 3;
        let last = [u64::MAX, 0, 0, 0, 0, four_bytes_at_the_end];
        assert_eq!(io_hits(&last, u16::MAX, 4), 0);
    }

    #[test]
    fn nobody_breaks_into_the_core() {
        let [_, _, c, ..] = restored([0, 0, layout::DIRECT_MAP, 0], 0, 0, 0);
        assert_eq!(c, 0);
        let saved = restored([0, 0x1000, u64::MAX, 0], 1, 0x4, 0);
        assert_eq!(saved, [0, 0x1000, u64::MAX, 0, DR6_FIXED | 1, 0x404]);
    }
}
