//! Waiting for an interrupt: the only places where ring 0 runs with interrupts on. The idle loop sleeps here; it, and
//! what takes long on the way out, also let interrupts in here, where no lock is held that a handler might want.
#![cfg_attr(target_os = "none", expect(unsafe_code, reason = "sti and hlt"))]

/// Sleeps until an interrupt has been handled.
#[cfg(target_os = "none")]
pub fn wait_for_interrupt() {
    // SAFETY: the stubs handle every interrupt; `sti` holds them off for one instruction more, so
    // none can slip in before `hlt` and be slept over.
    unsafe { core::arch::asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Handles what interrupts are waiting.
#[cfg(target_os = "none")]
pub fn let_interrupts_in() {
    // SAFETY: as above.
    unsafe { core::arch::asm!("sti", "nop", "cli", options(nostack)) };
}

/// The host has no interrupts to wait for.
#[cfg(not(target_os = "none"))]
pub fn wait_for_interrupt() {}

/// The host has no interrupts to let in.
#[cfg(not(target_os = "none"))]
pub fn let_interrupts_in() {}
