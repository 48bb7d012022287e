//! Marks the measured section: QEMU's counting plug-in recognises it by the two functions here.

#![expect(
    unsafe_code,
    reason = "reads the time-stamp counter; names for the plug-in"
)]

use std::io;

/// Calls `run` and returns the ticks that it took.
pub fn timed(run: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
    let from = bench_measured_from();
    run()?;
    Ok(bench_measured_to(from))
}

fn ticks() -> u64 {
    // SAFETY: all processors of this architecture have it, and Linux allows processes to use it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bench_measured_from() -> u64 {
    ticks()
}

// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bench_measured_to(from: u64) -> u64 {
    ticks().wrapping_sub(from)
}
