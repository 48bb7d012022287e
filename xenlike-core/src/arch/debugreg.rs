//! Debug registers. A guest's values are in the hardware only while one of its breakpoints is enabled.
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "moves to and from debug registers")
)]

/// DR7 bits L0 to L3 and G0 to G3, each of which enables a breakpoint.
pub const ENABLES: u64 = 0xff;
/// The breakpoint type of port accesses in DR7 (APM vol. 2 §13.1.1.4).
pub const IO_BREAKPOINT: u64 = 2;

/// A guest's DR0 to DR3, DR6 and DR7, in this order.
pub type DebugRegisters = [u64; 6];

/// The value of DR6 when no debug condition was met (APM vol. 2 §13.1.1.3).
pub const DR6_IDLE: u64 = 0xffff_0ff0;
/// The value of DR7 without any breakpoint.
pub const DR7_IDLE: u64 = 0x400;

/// The type field (R/W) of breakpoint `n`.
pub const fn kind(dr7: u64, n: u32) -> u64 {
    dr7.wrapping_shr(16 + n * 4) & 3
}

/// The number of bytes that breakpoint `n` covers (LEN).
pub const fn bytes(dr7: u64, n: u32) -> u64 {
    match dr7.wrapping_shr(18 + n * 4) & 3 {
        0 => 1,
        1 => 2,
        2 => 8,
        _ => 4,
    }
}

/// Whether breakpoint `n` is enabled and watches port accesses.
pub const fn is_io(dr7: u64, n: u32) -> bool {
    kind(dr7, n) == IO_BREAKPOINT && dr7.wrapping_shr(n * 2) & 3 != 0
}

/// The part of a guest's DR7 that goes to the hardware. Port accesses are emulated, and port breakpoints with
/// them, so they stay out.
#[cold]
pub fn without_io(dr7: u64) -> u64 {
    let io = (0..4).filter(|&n| is_io(dr7, n));
    io.fold(dr7, |dr7, n| dr7 & !(3 << (n * 2)))
}

/// Loads the guest's debug registers if any breakpoint is enabled. The caller has checked the values.
#[cfg(target_os = "none")]
pub fn load(regs: &DebugRegisters) {
    use core::arch::asm;
    let [dr0, dr1, dr2, dr3, _, dr7] = *regs;
    // SAFETY: breakpoints are at guest addresses only, because set_debugreg refuses others; a match traps to the #DB
    // handler.
    unsafe {
        if dr7 & ENABLES != 0 {
            asm!("mov dr0, {}", in(reg) dr0, options(nomem, nostack, preserves_flags));
            asm!("mov dr1, {}", in(reg) dr1, options(nomem, nostack, preserves_flags));
            asm!("mov dr2, {}", in(reg) dr2, options(nomem, nostack, preserves_flags));
            asm!("mov dr3, {}", in(reg) dr3, options(nomem, nostack, preserves_flags));
            asm!("mov dr7, {}", in(reg) without_io(dr7), options(nomem, nostack, preserves_flags));
        } else {
            asm!("mov dr7, {}", in(reg) DR7_IDLE, options(nomem, nostack, preserves_flags));
        }
    }
}

/// Disables all breakpoints, if the guest whose registers these are had enabled any.
#[cfg(target_os = "none")]
pub fn unload(regs: &DebugRegisters) {
    if regs[5] & ENABLES != 0 {
        // SAFETY: only disables breakpoints.
        unsafe {
            core::arch::asm!("mov dr7, {}", in(reg) DR7_IDLE, options(nomem, nostack, preserves_flags));
        }
    }
}

/// Reads the cause of a #DB and resets DR6. A bit is set in the result if its condition was met.
#[cfg(target_os = "none")]
pub fn take_dr6() -> u64 {
    let dr6: u64;
    // SAFETY: only reads and resets a status register.
    unsafe {
        core::arch::asm!("mov {}, dr6", out(reg) dr6, options(nomem, nostack, preserves_flags));
        core::arch::asm!("mov dr6, {}", in(reg) DR6_IDLE, options(nomem, nostack, preserves_flags));
    }
    dr6 ^ DR6_IDLE
}

/// Does nothing: the host's debug registers aren't ours.
#[cfg(not(target_os = "none"))]
pub fn load(_regs: &DebugRegisters) {}
/// Does nothing: the host's debug registers aren't ours.
#[cfg(not(target_os = "none"))]
pub fn unload(_regs: &DebugRegisters) {}
/// Returns 0: no debug condition was met.
#[cfg(not(target_os = "none"))]
pub fn take_dr6() -> u64 {
    0
}
