//! How long ring 0 has run without letting interrupts in (docs/latency.md). The work word tells of deadlines and of
//! other CPUs' requests, but a device's interrupt sets no bit in it; so long work checks the clock too.

#[cfg(target_os = "none")]
use {
    super::{percpu, time},
    crate::kit::atomic::{AtomicU64, Ordering},
    crate::kit::{MAX_CPUS, cell::PerCpu},
};

/// The time that ring 0 runs between two moments with interrupts enabled: half of the intended bound, because the work
/// between two checks is added to it.
#[cfg(target_os = "none")]
const MAX_STEP_NS: u64 = 100_000;

#[cfg(target_os = "none")]
#[inline]
pub(super) fn is_time_up(now: u64) -> bool {
    static SINCE: PerCpu<AtomicU64> = PerCpu::new([const { AtomicU64::new(0) }; MAX_CPUS]);
    let clock = SINCE.of(percpu::this_cpu());
    let since = clock.load(Ordering::Relaxed);
    let longest = time::ticks_of_ns(MAX_STEP_NS);
    if now.wrapping_sub(since) < longest {
        return false;
    }
    restart(clock, since, now, longest)
}

#[cfg(target_os = "none")]
#[inline(never)] // keeps its stack frame off the checks
fn restart(clock: &AtomicU64, since: u64, now: u64, longest: u64) -> bool {
    let (is_up, since) = look(since, now, longest);
    clock.store(since, Ordering::Relaxed);
    is_up
}

/// Returns false: the host has no interrupts to let in.
#[cfg(not(target_os = "none"))]
pub(super) fn is_time_up(_now: u64) -> bool {
    false
}

/// Whether the time is up at `now`, and the start from which the clock counts then. The first check starts the clock,
/// so that entries into ring 0 need not. A start that an earlier call left behind is replaced if it is old; otherwise
/// it stops a call that has done little, which then continues at once.
#[cfg(any(target_os = "none", test))]
const fn look(since: u64, now: u64, longest: u64) -> (bool, u64) {
    let took = now.wrapping_sub(since);
    if took < longest {
        (false, since)
    } else if took < 16 * longest {
        (true, 0)
    } else {
        (false, now)
    }
}

#[cfg(test)]
mod tests {
    use super::look;

    #[test]
    fn a_long_call_stops_and_goes_on() {
        let start = 1 << 40;
        assert_eq!(look(0, start, 100), (false, start));
        assert_eq!(look(start, start + 99, 100), (false, start));
        assert_eq!(look(start, start + 100, 100), (true, 0));
        // The continuation starts the clock anew, however soon it checks.
        assert_eq!(look(0, start + 101, 100), (false, start + 101));
    }

    #[test]
    fn an_old_clock_stops_nothing_twice() {
        let start = 1 << 40;
        assert_eq!(look(start, start + 1600, 100), (false, start + 1600));
        let (is_up, since) = look(start, start + 1500, 100);
        assert!(is_up && !look(since, start + 1501, 100).0);
    }
}
