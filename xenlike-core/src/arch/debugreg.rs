//! Debug registers: a guest's are in the hardware only while they can match anything.
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "moves to and from debug registers")
)]

/// DR7 bits L0–L3 and G0–G3: a breakpoint is on.
pub const ENABLES: u64 = 0xff;
/// A breakpoint's type in DR7: access to ports (APM vol. 2 §13.1.1.4).
pub const IO_BREAKPOINT: u64 = 2;

/// DR0–DR3, DR6, DR7 of a guest.
pub type DebugRegisters = [u64; 6];

/// What DR6 holds when nothing has happened (APM vol. 2 §13.1.1.3).
pub const DR6_IDLE: u64 = 0xffff_0ff0;
/// What DR7 holds when nothing is on.
pub const DR7_IDLE: u64 = 0x400;

/// The type of breakpoint `n`.
pub const fn kind(dr7: u64, n: u32) -> u64 {
    dr7.wrapping_shr(16 + n * 4) & 3
}

/// The bytes that breakpoint `n` spans.
pub const fn bytes(dr7: u64, n: u32) -> u64 {
    match dr7.wrapping_shr(18 + n * 4) & 3 {
        0 => 1,
        1 => 2,
        2 => 8,
        _ => 4,
    }
}

/// Whether breakpoint `n` is on, and for ports.
pub const fn is_io(dr7: u64, n: u32) -> bool {
    kind(dr7, n) == IO_BREAKPOINT && dr7.wrapping_shr(n * 2) & 3 != 0
}

/// What the hardware gets of a guest's DR7: its ports are emulated, and their breakpoints with them.
#[cold]
pub fn without_io(dr7: u64) -> u64 {
    let io = (0..4).filter(|&n| is_io(dr7, n));
    io.fold(dr7, |dr7, n| dr7 & !(3 << (n * 2)))
}

/// Puts a guest's into the hardware, if a breakpoint of its is on. Its values have been checked.
#[cfg(target_os = "none")]
pub fn load(regs: &DebugRegisters) {
    use core::arch::asm;
    let [dr0, dr1, dr2, dr3, _, dr7] = *regs;
    // SAFETY: breakpoints are at guest addresses only (set_debugreg refuses others); a match traps
    // to the #DB handler.
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

/// Turns all breakpoints off, if these had any on.
#[cfg(target_os = "none")]
pub fn unload(regs: &DebugRegisters) {
    if regs[5] & ENABLES != 0 {
        // SAFETY: turns breakpoints off.
        unsafe {
            core::arch::asm!("mov dr7, {}", in(reg) DR7_IDLE, options(nomem, nostack, preserves_flags));
        }
    }
}

/// What caused a #DB; DR6 is idle afterwards.
#[cfg(target_os = "none")]
pub fn take_dr6() -> u64 {
    let dr6: u64;
    // SAFETY: reads and resets a status register.
    unsafe {
        core::arch::asm!("mov {}, dr6", out(reg) dr6, options(nomem, nostack, preserves_flags));
        core::arch::asm!("mov dr6, {}", in(reg) DR6_IDLE, options(nomem, nostack, preserves_flags));
    }
    dr6 ^ DR6_IDLE
}

/// The host's are not ours.
#[cfg(not(target_os = "none"))]
pub fn load(_regs: &DebugRegisters) {}
/// The host's are not ours.
#[cfg(not(target_os = "none"))]
pub fn unload(_regs: &DebugRegisters) {}
/// Nothing happens on the host.
#[cfg(not(target_os = "none"))]
pub fn take_dr6() -> u64 {
    0
}
