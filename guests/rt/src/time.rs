//! Clocks: system time since the hypervisor's start, and the wall clock.

#![expect(unsafe_code, reason = "reads the TSC and shared pages")]

use core::sync::atomic::{Ordering, fence};

use crate::arch::{isa, wc_sec_hi};
use crate::{cpu, hyper, info};

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

fn tsc() -> u64 {
    // SAFETY: the fence orders the read after the loads before it; both are always allowed.
    unsafe {
        isa::_mm_lfence();
        isa::_rdtsc()
    }
}

/// System time: nanoseconds since the hypervisor's start.
#[must_use]
pub fn now_ns() -> u64 {
    let info = cpu::vcpu_info();
    if info.is_null() {
        return 0;
    }
    // SAFETY: the vCPU's own part of the shared info page, read with volatile accesses; the version
    // tells whether the copy is consistent.
    unsafe {
        let shared = &raw const (*info).time;
        // The hypervisor makes the version odd while it writes. If the version is odd or has changed, the
        // copy may mix old and new fields, and is read again.
        loop {
            let before = (&raw const (*shared).version).read_volatile();
            fence(Ordering::Acquire);
            let copy = shared.read_volatile();
            let now = copy.system_time_at(tsc());
            fence(Ordering::Acquire);
            let after = (&raw const (*shared).version).read_volatile();
            if before == after && before & 1 == 0 {
                return now;
            }
        }
    }
}

/// Sleeps until a system time. Handles events meanwhile if upcalls are unmasked.
pub fn sleep_until(system_time_ns: u64) {
    while now_ns() < system_time_ns {
        let _ = crate::events::wait(&[], system_time_ns);
    }
}

/// Sleeps for a number of nanoseconds.
pub fn sleep(nanoseconds: u64) {
    sleep_until(now_ns().saturating_add(nanoseconds));
}

/// Yields the CPU until `done` returns true, for `nanoseconds` at most; returns false on timeout.
pub fn wait_for(nanoseconds: u64, done: impl Fn() -> bool) -> bool {
    let end = now_ns().saturating_add(nanoseconds);
    while !done() {
        if now_ns() > end {
            return false;
        }
        hyper::yield_now();
    }
    true
}

/// Wall-clock time: seconds since 1970, and nanoseconds.
#[must_use]
pub fn wall_clock() -> (u64, u32) {
    let shared = core::ptr::from_ref(info::shared_info());
    // SAFETY: the shared info page, read with volatile accesses under its version.
    let (seconds, nanoseconds) = unsafe {
        loop {
            let before = (&raw const (*shared).wc_version).read_volatile();
            fence(Ordering::Acquire);
            let low = (&raw const (*shared).wc_sec).read_volatile();
            let high = wc_sec_hi(shared).read_volatile();
            let nanoseconds = (&raw const (*shared).wc_nsec).read_volatile();
            fence(Ordering::Acquire);
            let after = (&raw const (*shared).wc_version).read_volatile();
            if before == after && before & 1 == 0 {
                break ((u64::from(high) << 32) | u64::from(low), nanoseconds);
            }
        }
    };
    let total = now_ns().saturating_add(u64::from(nanoseconds));
    (seconds + total / SECOND_NS, (total % SECOND_NS) as u32)
}
