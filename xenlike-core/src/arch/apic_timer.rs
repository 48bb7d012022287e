//! The APIC timer: one interrupt at a given moment, per CPU. It takes a TSC value (TSC-deadline mode) where the CPU has
//! that and no erratum spoils it, else a count of bus clocks.

use crate::kit::atomic::{AtomicBool, AtomicU64, Ordering};

use super::lapic::timer::{self, Trigger};
use super::{errata, msr, percpu, time};
use crate::kit::MAX_CPUS;
use crate::kit::cell::PerCpu;

/// Timer ticks per nanosecond, times 2^32; 0 until measured, and if the timer takes TSC values.
static TICKS: AtomicU64 = AtomicU64::new(0);
/// The TSC value of each CPU's deadline; the maximum if it has none.
static DUE: PerCpu<AtomicU64> = PerCpu::new([const { AtomicU64::new(u64::MAX) }; MAX_CPUS]);
/// How long the timer's rate is measured, in ns.
const MEASURE_NS: u64 = 1_000_000;
/// How many pairs of readings are tried; the one taken in the shortest time counts.
const TRIES: u32 = 8;

/// Whether the timers take TSC values.
static BY_TSC: AtomicBool = AtomicBool::new(false);

#[inline]
fn by_tsc() -> bool {
    BY_TSC.load(Ordering::Relaxed)
}

/// Measures the timer's rate and returns it in Hz, or `None` if the timer takes TSC values. Called once, on the boot
/// CPU, when system time runs already.
pub fn calibrate() -> Option<u64> {
    BY_TSC.store(errata::has_deadline(), Ordering::Relaxed);
    if by_tsc() {
        return None;
    }
    timer::mask();
    timer::set_count(u32::MAX);
    // The first readings are slow, as they fill the caches.
    pair();
    let (first, start) = pair();
    time::wait_ns(MEASURE_NS);
    let (last, end) = pair();
    timer::set_count(0);
    let elapsed_ns = time::tsc_scale().to_ns(end.wrapping_sub(start)).max(1);
    let counted = u64::from(first.wrapping_sub(last));
    TICKS.store((counted << 32) / elapsed_ns, Ordering::Relaxed);
    Some(counted * 1_000_000_000 / elapsed_ns)
}

/// Reads the timer's count and the TSC at the same moment, as closely as can be had.
fn pair() -> (u32, u64) {
    let once = |_| {
        let before = time::tsc();
        let count = timer::count();
        let width = time::tsc().wrapping_sub(before);
        (width, count, before.wrapping_add(width / 2))
    };
    let best = (0..TRIES).map(once).min_by_key(|(width, ..)| *width);
    best.map_or((0, 0), |(_, count, tsc)| (count, tsc))
}

/// Sets up this CPU's timer, without a deadline.
pub fn init() {
    timer::set_lvt(if by_tsc() {
        Trigger::TscDeadline
    } else {
        Trigger::Count
    });
}

/// Whether a deadline is in the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// The deadline is still to come.
    Ahead,
    /// The deadline is now or in the past.
    Passed,
}

/// Sets this CPU's deadline in system time; `None` cancels it. A deadline in the past interrupts soon. The interrupt
/// may come early, and then the deadline must be set again. It may be late by as much as the clock's stamp, the second
/// argument, is old.
#[inline]
pub fn set_deadline_ns(deadline_ns: Option<u64>, (tsc, now_ns): time::Stamp) -> Distance {
    let from_now = deadline_ns.map(|at| at.saturating_sub(now_ns));
    let at = from_now.map(|ns| tsc.saturating_add(time::ticks_of_ns(ns)));
    let due = DUE.of(percpu::this_cpu());
    due.store(at.unwrap_or(u64::MAX), Ordering::Relaxed);
    if by_tsc() {
        set_tsc_deadline(at.unwrap_or(0));
    } else {
        timer::set_count(from_now.map_or(0, count));
    }
    if from_now == Some(0) {
        Distance::Passed
    } else {
        Distance::Ahead
    }
}

/// Whether this CPU's deadline has passed. Code that runs with interrupts off must ask, because the
/// timer's interrupt can't tell it.
#[inline]
pub fn is_due(tsc: u64) -> bool {
    tsc >= DUE.of(percpu::this_cpu()).load(Ordering::Relaxed)
}

/// The count that takes `ns`: at least 1, because 0 stops the timer, and at most what the register holds.
fn count(ns: u64) -> u32 {
    let ticks = (u128::from(ns) * u128::from(TICKS.load(Ordering::Relaxed))) >> 32;
    u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
}

#[expect(unsafe_code, reason = "writes the timer's register")]
fn set_tsc_deadline(tsc: u64) {
    // SAFETY: sets a moment for the timer's interrupt, which the core handles.
    unsafe { msr::write(msr::nr::TSC_DEADLINE, tsc) };
}
