//! System time: nanoseconds since the boot, from the TSC. Where the TSC can't be trusted, [`super::platform_clock`]
//! corrects each CPU's scale.
//!
//! Guests are given the scale that the core itself uses, so that a guest computes from its `vcpu_info` the
//! same time as the core.

use crate::kit::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::{cpu, msr, percpu};
use crate::kit::cell::PerCpu;
use crate::kit::{CpuId, Lock, MAX_CPUS, Rank};

pub(super) const SECOND_NS: u64 = 1_000_000_000;

/// The conversion from TSC ticks to nanoseconds: `((ticks << shift) * mul) >> 32`, where a negative shift
/// goes right (xen.h, `struct vcpu_time_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TscScale {
    /// The factor, `tsc_to_system_mul`, in units of 2^-32.
    pub mul: u32,
    /// The shift before the multiplication, `tsc_shift`.
    pub shift: i8,
    /// The rate of the TSC in kHz, as measured at boot.
    pub khz: u64,
    /// Whether the TSC never stops, has a constant rate, and is equal on all CPUs.
    pub stable: bool,
}

impl TscScale {
    /// The scale of a TSC that ticks `hz` times a second.
    pub const fn from_hz(hz: u64) -> Self {
        const SECOND: u64 = SECOND_NS;
        let (mut rate, mut shift) = (if hz == 0 { SECOND } else { hz }, 0_i8);
        // With one to two ticks per nanosecond, the factor has its full precision of 32 bits.
        while rate >= 2 * SECOND {
            rate >>= 1;
            shift -= 1;
        }
        while rate <= SECOND {
            rate <<= 1;
            shift += 1;
        }
        Self {
            mul: ((SECOND << 32) / rate) as u32,
            shift,
            khz: hz / 1000,
            stable: false,
        }
    }
    /// The duration of `ticks` in ns.
    #[inline]
    pub const fn to_ns(&self, ticks: u64) -> u64 {
        scale(ticks, self.mul, self.shift)
    }
    /// The smallest number of ticks that take at least `ns`.
    const fn least_ticks(&self, ns: u64) -> u64 {
        let shifted = ((ns as u128) << 32).div_ceil(self.mul as u128) as u64;
        if self.shift < 0 {
            shifted << -self.shift
        } else {
            shifted.div_ceil(1 << self.shift)
        }
    }
}

#[inline]
const fn scale(ticks: u64, mul: u32, shift: i8) -> u64 {
    let shifted = if shift < 0 {
        ticks >> -shift
    } else {
        ticks << shift
    };
    ((shifted as u128 * mul as u128) >> 32) as u64
}

/// How a CPU's TSC becomes system time. A running CPU reads and changes only its own clock. The handlers that can
/// interrupt that (NMI, #MC) don't ask for the time, so no reader sees a half-changed clock.
#[repr(align(64))]
struct Clock {
    /// The TSC value at system time 0. It may lie before the TSC's own 0, as a wrapped number.
    start: AtomicU64,
    mul: AtomicU32,
    /// The shift: the bits of the `i8`.
    shift: AtomicU32,
    /// TSC ticks per nanosecond, times 2^32.
    rate: AtomicU64,
}

static CLOCKS: PerCpu<Clock> = PerCpu::new(
    [const {
        Clock {
            start: AtomicU64::new(0),
            mul: AtomicU32::new(1 << 31),
            shift: AtomicU32::new(1),
            rate: AtomicU64::new(1 << 32),
        }
    }; MAX_CPUS],
);

impl Clock {
    fn set(&self, line: &Line) {
        let rate = ((u128::from(line.hz) << 32) / SECOND_NS as u128) as u64;
        self.start.store(line.start, Ordering::Relaxed);
        self.mul.store(line.scale.mul, Ordering::Relaxed);
        self.shift.store(line.scale.shift as u32, Ordering::Relaxed);
        self.rate.store(rate, Ordering::Relaxed);
    }
}

/// The TSC_ADJUST of the boot CPU.
static ADJUST: AtomicU64 = AtomicU64::new(0);
/// The rate of the TSC in Hz, as measured at boot.
static HZ: AtomicU64 = AtomicU64::new(1_000_000_000);
static STABLE: AtomicBool = AtomicBool::new(true);
/// The wall clock at system time 0: seconds and nanoseconds since 1970.
static WALL_CLOCK: Lock<(u64, u32)> = Lock::new(Rank::BootClock, (0, 0));

/// Reads the TSC, not ordered with other instructions.
#[cfg(target_os = "none")]
#[inline(always)]
#[expect(unsafe_code, reason = "rdtsc")]
pub fn tsc() -> u64 {
    // SAFETY: only reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Reads the TSC, not before all earlier instructions have completed.
#[cfg(target_os = "none")]
#[expect(unsafe_code, reason = "lfence")]
pub fn ordered_tsc() -> u64 {
    // SAFETY: only a fence.
    unsafe { core::arch::asm!("lfence", options(nostack, preserves_flags)) };
    tsc()
}

/// On the host, a counter that advances at every read.
#[cfg(not(target_os = "none"))]
pub fn tsc() -> u64 {
    static TSC: AtomicU64 = AtomicU64::new(1);
    TSC.fetch_add(1, Ordering::Relaxed)
}

/// The system time: nanoseconds since the boot.
#[inline]
pub fn now_ns() -> u64 {
    stamp().1
}

/// A TSC value, and the system time in ns that it stands for.
pub type Stamp = (u64, u64);

/// Reads this CPU's clock.
#[inline]
pub fn stamp() -> Stamp {
    let tsc = tsc();
    let clock = this_clock();
    let ticks = since(tsc, clock.start.load(Ordering::Relaxed));
    let shift = clock.shift.load(Ordering::Relaxed) as i8;
    (tsc, scale(ticks, clock.mul.load(Ordering::Relaxed), shift))
}

#[inline(always)]
fn this_clock() -> &'static Clock {
    CLOCKS.of(percpu::this_cpu())
}

/// A clock as a line: the time that it shows at each TSC value.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    start: u64,
    scale: TscScale,
    hz: u64,
}

impl Line {
    /// The line of a TSC of `hz` that shows `ns` at `tsc`, or up to a tick more.
    pub const fn through((tsc, ns): Stamp, hz: u64) -> Self {
        let scale = TscScale::from_hz(hz);
        Self {
            start: tsc.wrapping_sub(scale.least_ticks(ns)),
            scale,
            hz,
        }
    }
    /// The time that it shows at `tsc`, in ns.
    #[cfg(test)]
    pub const fn ns(&self, tsc: u64) -> u64 {
        self.scale.to_ns(since(tsc, self.start))
    }
}

/// The time that this CPU's clock shows at `tsc`, in ns.
pub fn ns_at(tsc: u64) -> u64 {
    let start = this_clock().start.load(Ordering::Relaxed);
    tsc_scale().to_ns(since(tsc, start))
}

/// Puts this CPU's clock on another line.
pub fn set_line(line: &Line) {
    this_clock().set(line);
}

/// The ticks from `start` to `tsc`; 0 if `start` is still to come, so that time doesn't begin in the far future.
#[inline]
const fn since(tsc: u64, start: u64) -> u64 {
    let ticks = tsc.wrapping_sub(start);
    if ticks.cast_signed() < 0 { 0 } else { ticks }
}

/// This CPU's ticks since the boot, for comparing CPUs. A negative number appears wrapped.
#[cfg(target_os = "none")]
pub fn ordered_ticks() -> u64 {
    ordered_tsc().wrapping_sub(this_clock().start.load(Ordering::Relaxed))
}

/// Sets the clock of `cpu`, which has not started, to follow the boot CPU's.
pub fn follow_boot_cpu(cpu: CpuId) {
    let line = Line::through((CLOCKS.of(CpuId(0)).start.load(Ordering::Relaxed), 0), hz());
    CLOCKS.of(cpu).set(&line);
}

/// Puts the clock of `cpu` forward by `ticks`.
pub fn put_forward(cpu: CpuId, ticks: i64) {
    CLOCKS
        .of(cpu)
        .start
        .fetch_sub(ticks.cast_unsigned(), Ordering::Relaxed);
}

/// Gives this CPU the boot CPU's TSC_ADJUST. Firmware that wrote to the TSC left different
/// values (SDM vol. 3 §18.17.3).
#[expect(unsafe_code, reason = "writes TSC_ADJUST")]
pub fn equalise() {
    let wanted = ADJUST.load(Ordering::Relaxed);
    if cpu::features().tsc_adjust && msr::read_safe(msr::nr::TSC_ADJUST) != Some(wanted) {
        // SAFETY: shifts this CPU's TSC before the core has used it for anything.
        unsafe { msr::write_or_ignore(msr::nr::TSC_ADJUST, wanted) };
    }
}

/// The number of TSC ticks that take at least `ns`.
#[inline]
pub fn ticks_of_ns(ns: u64) -> u64 {
    ticks_at(this_clock().rate.load(Ordering::Relaxed), ns)
}

/// Like [`ticks_of_ns`], for `rate` ticks per nanosecond, times 2^32. Saturates: a guest's deadline may be that far
/// away, and must not wrap around to a near one.
#[inline]
const fn ticks_at(rate: u64, ns: u64) -> u64 {
    let ticks = (ns as u128 * rate as u128) >> 32;
    if ticks >= u64::MAX as u128 {
        u64::MAX
    } else {
        (ticks as u64).wrapping_add(1)
    }
}

/// Spins for at least `ns` nanoseconds.
pub fn wait_ns(ns: u64) {
    let start = tsc();
    let ticks = ticks_of_ns(ns);
    while tsc().wrapping_sub(start) < ticks {
        core::hint::spin_loop();
    }
}

fn hz() -> u64 {
    HZ.load(Ordering::Relaxed)
}

/// The scale of this CPU's clock.
pub fn tsc_scale() -> TscScale {
    let clock = this_clock();
    TscScale {
        mul: clock.mul.load(Ordering::Relaxed),
        shift: clock.shift.load(Ordering::Relaxed) as i8,
        khz: hz() / 1000,
        stable: STABLE.load(Ordering::Relaxed),
    }
}

/// Starts system time at 0, with a TSC of `hz` and a wall clock that shows `wall` seconds since 1970 now.
pub fn start(hz: u64, wall: u64) {
    HZ.store(hz, Ordering::Relaxed);
    set_line(&Line::through((tsc(), 0), hz));
    let features = cpu::features();
    if features.tsc_adjust {
        let adjust = msr::read_safe(msr::nr::TSC_ADJUST).unwrap_or(0);
        ADJUST.store(adjust, Ordering::Relaxed);
    }
    STABLE.store(features.invariant_tsc, Ordering::Relaxed);
    set_boot_wall_clock(wall, 0);
}

/// Records that the TSC differs between CPUs, or that another clock corrects it. Guests are told not to rely on it.
pub fn set_unstable() {
    STABLE.store(false, Ordering::Relaxed);
}

/// The wall clock at system time 0: seconds and nanoseconds since 1970.
pub fn boot_wall_clock() -> (u64, u32) {
    *WALL_CLOCK.lock()
}

/// Sets the wall clock at system time 0.
pub fn set_boot_wall_clock(seconds: u64, nanoseconds: u32) {
    *WALL_CLOCK.lock() = (seconds, nanoseconds);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_a_second_at_any_rate() {
        for hz in [
            400_000_000,
            1_000_000_000,
            1_999_999_999,
            2_400_000_000,
            5_123_456_789,
        ] {
            let ns = TscScale::from_hz(hz).to_ns(hz);
            assert!((999_999_990..=1_000_000_000).contains(&ns), "{hz}: {ns}");
        }
    }

    #[test]
    fn a_cpu_behind_the_start_is_at_the_start() {
        assert_eq!(since(99, 100), 0);
        assert_eq!(since(101, 100), 1);
        // The CPU's TSC was reset after the boot CPU's had run for a while.
        let start = 0_u64.wrapping_sub(1000);
        assert_eq!(since(5, start), 1005);
    }

    #[test]
    fn a_far_deadline_stays_far() {
        let rate = 3_u64 << 32;
        assert_eq!(ticks_at(rate, 10), 31);
        let last = u64::MAX / 3;
        assert_eq!(ticks_at(rate, last - 1), u64::MAX - 2);
        for ns in [last, last + 1, last + 2, u64::MAX] {
            assert_eq!(ticks_at(rate, ns), u64::MAX);
        }
    }

    #[test]
    fn years_do_not_overflow() {
        let hz = 5_000_000_000_u64;
        let years = TscScale::from_hz(hz).to_ns(hz * 3600 * 24 * 365 * 20);
        assert_eq!(years / 1_000_000_000 / 3600, 24 * 365 * 20 - 1);
    }
}
