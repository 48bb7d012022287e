//! Waiting for an interrupt: the only places where ring 0 runs with interrupts on. The idle loop sleeps here; it, and
//! what takes long on the way out, also let interrupts in here, where no lock is held that a handler might want.
#![cfg_attr(target_os = "none", expect(unsafe_code, reason = "sti and hlt"))]

#[cfg(target_os = "none")]
core::arch::global_asm!(
    ".global sleep_with_interrupts",
    ".global sleeping",
    "sleep_with_interrupts:",
    "sti",
    "sleeping: hlt",
    "cli",
    "ret",
);

#[cfg(target_os = "none")]
unsafe extern "sysv64" {
    fn sleep_with_interrupts();
    static sleeping: u8;
}

/// Sleeps until an interrupt has been handled.
#[cfg(target_os = "none")]
pub fn wait_for_interrupt() {
    // SAFETY: the stubs handle every interrupt; `sti` holds them off for one instruction more, so
    // none can slip in before `hlt` and be slept over.
    unsafe { sleep_with_interrupts() };
}

/// Where a handler that nothing holds off returns to, if it hit at `rip`. An NMI or #MC before `hlt` ends the hold-off
/// of `sti`: the IRET would let an interrupt in there, whose work would be slept over. Then there is no sleep.
#[cfg(target_os = "none")]
pub fn past_sleep(rip: u64) -> u64 {
    past(rip, &raw const sleeping as u64)
}

/// `hlt` is one byte long.
#[cfg(any(target_os = "none", test))]
const fn past(rip: u64, hlt: u64) -> u64 {
    if rip == hlt { rip + 1 } else { rip }
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

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_sleep_itself_is_skipped() {
        let at = [9, 10, 11, 12].map(|rip| super::past(rip, 11));
        assert_eq!(at, [9, 10, 12, 12]);
    }
}
