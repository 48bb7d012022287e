//! Waiting for an interrupt: the only places where ring 0 runs with interrupts on. The idle loop sleeps here. The idle
//! loop and long work on the way out of ring 0 also let pending interrupts in here, where no lock is held that a
//! handler could wait for.
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
    // SAFETY: the stubs handle every interrupt. STI delays interrupts until after the next instruction, so none can
    // arrive between it and `hlt`, to be slept through.
    unsafe { sleep_with_interrupts() };
}

/// The address to which the handler of an NMI or #MC returns if that hit at `rip`. If it hit just before `hlt`, the
/// delay of STI is over, and its IRET would let an interrupt in there; the CPU would then sleep although that interrupt
/// made work. So the handler skips the `hlt`.
#[cfg(target_os = "none")]
pub fn past_sleep(rip: u64) -> u64 {
    past(rip, &raw const sleeping as u64)
}

/// `hlt` is one byte long.
#[cfg(any(target_os = "none", test))]
const fn past(rip: u64, hlt: u64) -> u64 {
    if rip == hlt { rip + 1 } else { rip }
}

/// Handles the interrupts that are pending.
#[cfg(target_os = "none")]
pub fn let_interrupts_in() {
    // SAFETY: the stubs handle every interrupt.
    unsafe { core::arch::asm!("sti", "nop", "cli", options(nostack)) };
}

/// Does nothing: the host has no interrupts to wait for.
#[cfg(not(target_os = "none"))]
pub fn wait_for_interrupt() {}

/// Does nothing: the host has no interrupts to let in.
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
