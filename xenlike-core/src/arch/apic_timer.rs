//! The APIC timer: one interrupt at a given moment, per CPU.

use crate::kit::atomic::{AtomicBool, AtomicU64, Ordering};

use super::lapic::timer::{self, Trigger};
use super::{errata, msr, percpu, time};
use crate::kit::MAX_CPUS;
use crate::kit::cell::PerCpu;

/// Timer ticks a nanosecond, times 2^32; 0 while not measured or if the timer takes TSC values.
static TICKS: AtomicU64 = AtomicU64::new(0);
/// The TSC at each CPU's deadline; the maximum without one.
static DUE: PerCpu<AtomicU64> = PerCpu::new([const { AtomicU64::new(u64::MAX) }; MAX_CPUS]);
/// How long the rate is measured, in ns.
const MEASURE_NS: u64 = 1_000_000;
/// How often a pair of readings is tried; the tightest is taken.
const TRIES: u32 = 8;

/// Whether the timer takes TSC values.
static BY_TSC: AtomicBool = AtomicBool::new(false);

#[inline]
fn by_tsc() -> bool {
    BY_TSC.load(Ordering::Relaxed)
}

/// Measures the timer's rate, in Hz (nothing if it takes TSC values). On the boot CPU, once, after
/// system time runs.
pub fn calibrate() -> Option<u64> {
    BY_TSC.store(errata::has_deadline(), Ordering::Relaxed);
    if by_tsc() {
        return None;
    }
    timer::mask();
    timer::set_count(u32::MAX);
    // The first readings are slow, while caches fill.
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

/// The count and the TSC at one moment, as close as can be had.
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

/// Readies this CPU's timer.
pub fn init() {
    timer::set_lvt(if by_tsc() {
        Trigger::TscDeadline
    } else {
        Trigger::Count
    });
}

/// Where a deadline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Still to come.
    Ahead,
    /// Now, or it has passed.
    Passed,
}

/// The interrupt comes at that system time, or soon if it has passed; never with nothing. It may
/// come early: then set it again. It may come as late as the clock's stamp is old.
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

/// Whether this CPU's deadline has come: with interrupts off nobody else says so.
#[inline]
pub fn is_due(tsc: u64) -> bool {
    tsc >= DUE.of(percpu::this_cpu()).load(Ordering::Relaxed)
}

/// The count that takes `ns`: at least 1, at most what the register holds.
fn count(ns: u64) -> u32 {
    let ticks = (u128::from(ns) * u128::from(TICKS.load(Ordering::Relaxed))) >> 32;
    u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
}

#[expect(unsafe_code, reason = "writes the timer's register")]
fn set_tsc_deadline(tsc: u64) {
    // SAFETY: a moment for the timer's interrupt, which the core handles.
    unsafe { msr::write(msr::nr::TSC_DEADLINE, tsc) };
}
