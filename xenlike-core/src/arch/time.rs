//! System time: nanoseconds since the boot, from the TSC; where that can't be trusted, [`super::platform_clock`]
//! corrects each CPU's scale.
//!
//! The scale is the one that guests are told, so that what a guest computes from its `vcpu_info`
//! and what the core computes are the same number.

use crate::kit::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::{cpu, msr, percpu};
use crate::kit::cell::PerCpu;
use crate::kit::{CpuId, Lock, MAX_CPUS, Rank};

pub(super) const SECOND_NS: u64 = 1_000_000_000;

/// From TSC ticks to nanoseconds: `((ticks << shift) * mul) >> 32`, a negative shift going right
/// (xen.h, `struct vcpu_time_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TscScale {
    /// `tsc_to_system_mul`
    pub mul: u32,
    /// `tsc_shift`
    pub shift: i8,
    /// The TSC's rate in kHz, as it was measured at boot.
    pub khz: u64,
    /// Whether the TSC ticks always, at one rate, and alike on all CPUs.
    pub stable: bool,
}

impl TscScale {
    /// The scale of a TSC that ticks `hz` times a second.
    pub const fn from_hz(hz: u64) -> Self {
        const SECOND: u64 = SECOND_NS;
        let (mut rate, mut shift) = (if hz == 0 { SECOND } else { hz }, 0_i8);
        // Between one and two ticks a nanosecond, the factor uses all of its 32 bits.
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
    /// How long `ticks` are, in ns.
    #[inline]
    pub const fn to_ns(&self, ticks: u64) -> u64 {
        scale(ticks, self.mul, self.shift)
    }
    /// The fewest ticks that are not shorter than `ns`.
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

/// How a CPU's TSC becomes system time. A CPU that runs reads and changes its own alone. Handlers that can hit anywhere
/// (NMI, #MC) don't ask for the time, so a reader never sees half of a change.
#[repr(align(64))]
struct Clock {
    /// The TSC at system time 0, which may have been before it was 0.
    start: AtomicU64,
    mul: AtomicU32,
    /// The shift, as the `i8`'s bits.
    shift: AtomicU32,
    /// TSC ticks a nanosecond, times 2^32.
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

/// The boot CPU's TSC_ADJUST.
static ADJUST: AtomicU64 = AtomicU64::new(0);
/// The TSC's rate as it was measured at boot.
static HZ: AtomicU64 = AtomicU64::new(1_000_000_000);
static STABLE: AtomicBool = AtomicBool::new(true);
/// Seconds and nanoseconds since 1970 at system time 0.
static WALL_CLOCK: Lock<(u64, u32)> = Lock::new(Rank::BootClock, (0, 0));

/// The TSC.
#[cfg(target_os = "none")]
#[inline(always)]
#[expect(unsafe_code, reason = "rdtsc")]
pub fn tsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The TSC, not before what comes before it in the program.
#[cfg(target_os = "none")]
#[expect(unsafe_code, reason = "lfence")]
pub fn ordered_tsc() -> u64 {
    // SAFETY: a fence.
    unsafe { core::arch::asm!("lfence", options(nostack, preserves_flags)) };
    tsc()
}

/// On the host a counter that goes on with every look.
#[cfg(not(target_os = "none"))]
pub fn tsc() -> u64 {
    static TSC: AtomicU64 = AtomicU64::new(1);
    TSC.fetch_add(1, Ordering::Relaxed)
}

/// Nanoseconds since the boot.
#[inline]
pub fn now_ns() -> u64 {
    stamp().1
}

/// The TSC, and the nanoseconds since the boot that it stands for.
pub type Stamp = (u64, u64);

/// The clock now.
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

/// A clock as a line: what it shows at each TSC.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    start: u64,
    scale: TscScale,
    hz: u64,
}

impl Line {
    /// The line of a TSC of `hz` that shows `ns` at `tsc`, or by less than a tick more.
    pub const fn through((tsc, ns): Stamp, hz: u64) -> Self {
        let scale = TscScale::from_hz(hz);
        Self {
            start: tsc.wrapping_sub(scale.least_ticks(ns)),
            scale,
            hz,
        }
    }
    /// What it shows at `tsc`, in ns.
    pub const fn ns(&self, tsc: u64) -> u64 {
        self.scale.to_ns(since(tsc, self.start))
    }
}

/// What this CPU's clock shows at `tsc`, in ns.
pub fn ns_at(tsc: u64) -> u64 {
    let start = this_clock().start.load(Ordering::Relaxed);
    tsc_scale().to_ns(since(tsc, start))
}

/// Puts this CPU's clock on another line.
pub fn set_line(line: &Line) {
    this_clock().set(line);
}

/// The ticks from `start` to `tsc`; none if that is not reached yet: time never starts with the far future.
#[inline]
const fn since(tsc: u64, start: u64) -> u64 {
    let ticks = tsc.wrapping_sub(start);
    if ticks.cast_signed() < 0 { 0 } else { ticks }
}

/// This CPU's ticks since the boot, negative ones as they wrap; for comparing CPUs.
#[cfg(target_os = "none")]
pub fn ordered_ticks() -> u64 {
    ordered_tsc().wrapping_sub(this_clock().start.load(Ordering::Relaxed))
}

/// The clock of `cpu`, which has not started, follows the boot CPU's.
pub fn follow_boot_cpu(cpu: CpuId) {
    let line = Line::through((CLOCKS.of(CpuId(0)).start.load(Ordering::Relaxed), 0), hz());
    CLOCKS.of(cpu).set(&line);
}

/// Puts the clock of `cpu` forward.
pub fn put_forward(cpu: CpuId, ticks: i64) {
    CLOCKS
        .of(cpu)
        .start
        .fetch_sub(ticks.cast_unsigned(), Ordering::Relaxed);
}

/// Gives this CPU the boot CPU's TSC_ADJUST: firmware that wrote to the TSC left them different (SDM vol. 3 §18.17.3).
#[expect(unsafe_code, reason = "writes TSC_ADJUST")]
pub fn equalise() {
    let wanted = ADJUST.load(Ordering::Relaxed);
    if cpu::features().tsc_adjust && msr::read_safe(msr::nr::TSC_ADJUST) != Some(wanted) {
        // SAFETY: moves this CPU's TSC, before anything here has looked at it.
        unsafe { msr::write_or_ignore(msr::nr::TSC_ADJUST, wanted) };
    }
}

/// How many TSC ticks `ns` are, rounded up.
#[inline]
pub fn ticks_of_ns(ns: u64) -> u64 {
    ticks_at(this_clock().rate.load(Ordering::Relaxed), ns)
}

/// The same at a rate of so many ticks a nanosecond, times 2^32. More than can be counted is the most: a
/// guest's deadline may be as far as that, and must not come round to be near.
#[inline]
const fn ticks_at(rate: u64, ns: u64) -> u64 {
    let ticks = (ns as u128 * rate as u128) >> 32;
    if ticks >= u64::MAX as u128 {
        u64::MAX
    } else {
        (ticks as u64).wrapping_add(1)
    }
}

/// Waits for that long.
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

/// How this CPU's TSC ticks become nanoseconds.
pub fn tsc_scale() -> TscScale {
    let clock = this_clock();
    TscScale {
        mul: clock.mul.load(Ordering::Relaxed),
        shift: clock.shift.load(Ordering::Relaxed) as i8,
        khz: hz() / 1000,
        stable: STABLE.load(Ordering::Relaxed),
    }
}

/// Starts system time at 0, for a TSC of `hz` and a wall clock that shows `wall` (s since 1970) now.
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

/// The TSC differs between CPUs, or another clock corrects it: guests are told not to rely on it.
pub fn set_unstable() {
    STABLE.store(false, Ordering::Relaxed);
}

/// The wall clock at system time 0: seconds and nanoseconds since 1970.
pub fn boot_wall_clock() -> (u64, u32) {
    *WALL_CLOCK.lock()
}

/// Sets the wall clock that was at system time 0.
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
        // Its TSC was reset after the boot CPU's had run for a while.
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
