//! A platform clock as the source of system time, on machines whose TSCs change their rate or differ between CPUs.
//!
//! Time is still read from the TSC, since that is fast. About once a second each CPU compares its TSC with the platform
//! clock and puts its own clock on a new line: a clock that is behind leaps forward, one that is ahead runs slower, and
//! none goes back. The only state that CPUs share is how often the counter has wrapped.

use super::calibrate::Reference;
use super::percpu;
use super::time::{self, Line, SECOND_NS, Stamp, TscScale};
use crate::kit::atomic::{AtomicU64, Ordering};
use crate::kit::cell::PerCpu;
use crate::kit::{MAX_CPUS, Once};

/// The time between two corrections of a CPU's clock, in ns.
const PERIOD_NS: u64 = SECOND_NS;
/// The rates that a TSC can have, in Hz. A rate outside means that one of the clocks stood still or was set.
const POSSIBLE_HZ: core::ops::RangeInclusive<u128> = 1_000_000..=100_000_000_000;

/// The ticks of a counter, extended to 64 bits across its wraps.
struct Ticks(AtomicU64);

impl Ticks {
    /// The ticks up to now, and the other value that `read` returns with the count. Some CPU must call it
    /// at least once per wrap.
    fn look<T>(&self, mask: u32, read: impl FnOnce() -> (u32, T)) -> (u64, T) {
        // The count is read after the ticks with which it is compared, so it is never behind them. Another CPU may have
        // stored a later value by then: `fetch_max` keeps the later one.
        let last = self.0.load(Ordering::Acquire);
        let (count, rest) = read();
        let now = last.wrapping_add(u64::from(count.wrapping_sub(last as u32) & mask));
        self.0.fetch_max(now, Ordering::AcqRel);
        (now, rest)
    }
}

struct Platform {
    clock: Reference,
    scale: TscScale,
    /// The ticks and the system time at which it became the source.
    first: (u64, u64),
}

static PLATFORM: Once<Platform> = Once::new();
static TICKS: Ticks = Ticks(AtomicU64::new(0));

/// Makes `clock`, which moves, the source of system time from now on.
pub fn use_clock(clock: &Reference) {
    let (ticks, tsc) = TICKS.look(clock.mask(), || clock.pair());
    PLATFORM.call_once(|| Platform {
        clock: *clock,
        scale: TscScale::from_hz(clock.hz()),
        first: (ticks, time::ns_at(tsc)),
    });
}

/// The name of the clock, or `None` if the TSC is the source of time.
pub fn name() -> Option<&'static str> {
    PLATFORM.get().map(|platform| platform.clock.name())
}

/// The time in ns until a CPU's clock must be corrected again; `None` if the TSC is the source.
pub fn period_ns() -> Option<u64> {
    PLATFORM.get().map(|_| PERIOD_NS)
}

impl Platform {
    /// This CPU's TSC, and the system time by the platform clock at that moment.
    fn look(&self) -> Stamp {
        let (ticks, tsc) = TICKS.look(self.clock.mask(), || self.clock.pair());
        let (first, first_ns) = self.first;
        let ns = self.scale.to_ns(ticks.wrapping_sub(first));
        (tsc, first_ns.wrapping_add(ns))
    }
}

/// Corrects this CPU's clock; returns whether it changed. The first call on a CPU only takes the reference point.
pub fn correct() -> bool {
    static LAST: PerCpu<[AtomicU64; 2]> =
        PerCpu::new([const { [const { AtomicU64::new(0) }; 2] }; MAX_CPUS]);
    let Some(platform) = PLATFORM.get() else {
        return false;
    };
    let now = platform.look();
    let [last_tsc, last_ns] = LAST.of(percpu::this_cpu());
    let last = (
        last_tsc.swap(now.0, Ordering::Relaxed),
        last_ns.swap(now.1, Ordering::Relaxed),
    );
    let is_first = last == (0, 0);
    let line = corrected(time::ns_at(now.0), last, now).filter(|_| !is_first);
    line.iter().for_each(time::set_line);
    line.is_some()
}

/// The next line of a clock that shows `shown`, after two readings of the TSC and the right time; `None`
/// if the readings are implausible.
fn corrected(shown: u64, (last_tsc, last_ns): Stamp, (tsc, ns): Stamp) -> Option<Line> {
    let elapsed_ns = u128::from(ns.saturating_sub(last_ns)).max(1);
    let ticks = u128::from(tsc.wrapping_sub(last_tsc));
    let hz = ticks * u128::from(SECOND_NS) / elapsed_ns;
    if !POSSIBLE_HZ.contains(&hz) {
        return None;
    }
    // The time by which the clock is ahead is to be lost within a period, but the clock never runs at less than half
    // speed.
    let ahead = u128::from(shown.saturating_sub(ns)).min(PERIOD_NS.into());
    let slower = hz + hz * ahead / u128::from(PERIOD_NS);
    Some(Line::through((tsc, shown.max(ns)), slower as u64))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A CPU's clock beside the right time, while its TSC ticks at one rate after another.
    struct Run {
        line: Line,
        last: Stamp,
    }

    impl Run {
        fn new(hz: u64) -> Self {
            let last = (5_000_000_000_000, 7_000_000_000);
            Self {
                line: Line::through(last, hz),
                last,
            }
        }
        /// Lets a second pass at `hz`, corrects the clock `ns` late, and returns how far it was ahead before that.
        fn go(&mut self, hz: u64, late_ns: u64) -> Result<i64, TestCaseError> {
            let (tsc, ns) = self.last;
            let elapsed_ns = SECOND_NS + late_ns;
            let ticks = u128::from(hz) * u128::from(elapsed_ns) / u128::from(SECOND_NS);
            let now = (tsc + ticks as u64, ns + elapsed_ns);
            let shown = self.line.ns(now.0);
            let next = corrected(shown, self.last, now).unwrap();
            prop_assert!(next.ns(now.0) >= shown, "it goes back");
            prop_assert!(next.ns(now.0 - 1) <= next.ns(now.0));
            prop_assert!(next.ns(now.0) <= shown.max(now.1) + 1000, "it leaps");
            (self.line, self.last) = (next, now);
            Ok(shown.cast_signed() - now.1.cast_signed())
        }
    }

    proptest! {
        /// Whatever the rate does between two corrections, the clock never goes back and stays within a little more
        /// than 2 s. Once the rate is steady again, the clock is soon right.
        #[test]
        fn a_clock_follows_any_rate(
            hz in 40_000_000_u64..6_000_000_000,
            rates in prop::collection::vec((50_u64..=150, 0_u64..50_000_000), 1..60),
        ) {
            let mut run = Run::new(hz);
            for (percent, late_ns) in rates {
                let off = run.go(hz * percent / 100, late_ns)?;
                prop_assert!(off.unsigned_abs() < 2_100_000_000, "{off}");
            }
            let last = (0..12).map(|_| run.go(hz, 1000)).last().unwrap()?;
            prop_assert!(last.unsigned_abs() < 2_000, "{last}");
        }

        /// A clock that is put on a line is off by at most a tick and the rounding of the scale.
        #[test]
        fn a_line_goes_through_its_point(
            hz in 1_000_000_u64..10_000_000_000,
            tsc in any::<u64>(),
            ns in 0_u64..100_000_000_000_000_000,
        ) {
            let shown = Line::through((tsc, ns), hz).ns(tsc);
            prop_assert!(shown >= ns && shown - ns <= SECOND_NS / hz + 2, "{shown} {ns}");
        }

        /// No reading panics, and clocks that stood still or were set change nothing.
        #[test]
        fn any_look_is_taken(shown: u64, last: Stamp, now: Stamp) {
            corrected(shown, last, now);
            prop_assert!(corrected(shown, last, (last.0, now.1)).is_none());
            prop_assert!(corrected(shown, last, (last.0.wrapping_sub(1), last.1)).is_none());
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Ticks;
    use crate::kit::atomic::model::explore;
    use crate::kit::atomic::{AtomicU64, Ordering};
    use loom::thread;
    use std::sync::Arc;

    /// The bits of the counter: it wraps after 8 ticks.
    const MASK: u32 = 7;

    /// Two CPUs that read a counter as it wraps count all of its ticks.
    #[test]
    fn no_wrap_is_lost_or_counted_twice() {
        explore(3, || {
            let shared = Arc::new((Ticks(AtomicU64::new(5)), AtomicU64::new(5)));
            shared.0.0.load(Ordering::Relaxed);
            shared.1.load(Ordering::Relaxed);
            let look = |(ticks, counter): &(Ticks, AtomicU64)| {
                // Time passes with every look at the counter.
                let read = || {
                    let now = counter.fetch_add(2, Ordering::SeqCst) + 2;
                    (now as u32 & MASK, now)
                };
                let (found, now) = ticks.look(MASK, read);
                assert_eq!(found, now);
            };
            let theirs = shared.clone();
            let other = thread::spawn(move || (0..2).for_each(|_| look(&theirs)));
            (0..2).for_each(|_| look(&shared));
            other.join().unwrap();
        });
    }
}
