//! A domain's share of the machine: weight and cap, in the numbers of XEN_DOMCTL_SCHEDOP, and the CPUs of its pool.

use crate::kit::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::kit::{CpuSet, Lock, Rank};

/// The weight of a domain for which nobody chose one.
pub const DEFAULT_WEIGHT: u16 = 256;
/// A capped domain's budget fills up to what it may use in this time.
pub const CAP_PERIOD_NS: u64 = 30_000_000;
/// A parked domain waits until it may run again for at least this long, at 100 %.
const CAP_RESUME_NS: i64 = 2_000_000;
/// More units than CPUs can't be charged for at once.
const MOST_CHARGED: u64 = crate::kit::MAX_CPUS as u64;
/// Virtual time runs at 1/16 ns a nanosecond for one unit of the default weight.
const VTIME_SCALE: u64 = 16;

/// The number is not one that a weight or a cap may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange;

/// Bits for the number of active units: enough for the most vCPUs that a domain may have.
const COUNT_BITS: u32 = 10;

/// See [`Share::active_time`]; in ns, of which the upper [`COUNT_BITS`] bits are missing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ActiveTime(u64);

impl ActiveTime {
    /// How much it is later than `start`; nothing if the clocks of two CPUs make it earlier.
    fn since(self, start: Self) -> u64 {
        let signed = (self.0.wrapping_sub(start.0) << COUNT_BITS) as i64 >> COUNT_BITS;
        u64::try_from(signed).unwrap_or(0)
    }
}

/// Weight, cap and budget of one domain.
#[derive(Debug)]
pub struct Share {
    weight: AtomicU16,
    /// Percent of one physical CPU; 0: no cap.
    cap_percent: AtomicU16,
    /// How many units of the domain run or want to, in [`COUNT_BITS`] bits. Above them the sum of the
    /// times (ns) at which units became active, less the times at which they ceased to be: both in
    /// one word, so that they change together.
    activity: AtomicU64,
    budget: Lock<Budget>,
    /// The number of its pool.
    pool: AtomicU32,
    /// The pool's CPUs.
    cpus: AtomicU64,
}

#[derive(Debug)]
struct Budget {
    /// CPU time the domain may still use; negative: overdrawn.
    left_ns: i64,
    filled_at_ns: u64,
}

/// What a capped domain may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// Run as long as it likes.
    Unlimited,
    /// Run for this long.
    For(u64),
    /// Nothing before this time.
    ParkUntil(u64),
}

impl Share {
    /// A share of the default weight, not capped.
    pub const fn new() -> Self {
        Self {
            weight: AtomicU16::new(DEFAULT_WEIGHT),
            cap_percent: AtomicU16::new(0),
            activity: AtomicU64::new(0),
            budget: Lock::new(
                Rank::Budget,
                Budget {
                    left_ns: 0,
                    filled_at_ns: 0,
                },
            ),
            pool: AtomicU32::new(0),
            cpus: AtomicU64::new(CpuSet::ALL.0),
        }
    }

    /// The number of its pool.
    pub fn pool(&self) -> u32 {
        self.pool.load(Ordering::Relaxed)
    }
    /// The CPUs of its pool.
    pub fn cpus(&self) -> CpuSet {
        CpuSet(self.cpus.load(Ordering::Relaxed))
    }
    /// From now on it is in that pool, which has these CPUs. The caller has all CPUs ask the scheduler.
    pub fn set_pool(&self, pool: u32, cpus: CpuSet) {
        self.pool.store(pool, Ordering::Relaxed);
        self.cpus.store(cpus.0, Ordering::Relaxed);
    }

    /// The weight, 1 to 65535.
    pub fn weight(&self) -> u16 {
        self.weight.load(Ordering::Relaxed)
    }
    /// Sets the weight.
    pub fn set_weight(&self, weight: u16) -> Result<(), OutOfRange> {
        if weight == 0 {
            return Err(OutOfRange);
        }
        self.weight.store(weight, Ordering::Relaxed);
        Ok(())
    }
    /// The cap in percent of one CPU; 0: none.
    pub fn cap_percent(&self) -> u16 {
        self.cap_percent.load(Ordering::Relaxed)
    }
    /// Sets the cap; 0 takes it off. 65535 means "leave it" in the hypercall and is no cap.
    pub fn set_cap_percent(&self, percent: u16) -> Result<(), OutOfRange> {
        if percent == u16::MAX {
            return Err(OutOfRange);
        }
        self.cap_percent.store(percent, Ordering::Relaxed);
        Ok(())
    }

    /// One more unit of the domain is active.
    pub(super) fn activate(&self, now_ns: u64) {
        self.activity
            .fetch_add(now_ns << COUNT_BITS | 1, Ordering::Relaxed);
    }
    /// One less.
    pub(super) fn deactivate(&self, now_ns: u64) {
        self.activity
            .fetch_sub(now_ns << COUNT_BITS | 1, Ordering::Relaxed);
    }

    /// The time that the domain's units have been active, added up. Only differences mean something.
    pub(super) fn active_time(&self, now_ns: u64) -> ActiveTime {
        let activity = self.activity.load(Ordering::Relaxed);
        let count = activity & ((1 << COUNT_BITS) - 1);
        ActiveTime(
            count
                .wrapping_mul(now_ns)
                .wrapping_sub(activity >> COUNT_BITS),
        )
    }

    /// The virtual time that `ran_ns` of CPU time costs one unit of the domain, while the domain's units
    /// were active from `start` to `end`: all that were active meanwhile share the domain's weight.
    pub(super) fn virtual_time(&self, ran_ns: u64, start: ActiveTime, end: ActiveTime) -> u64 {
        end.since(start)
            .clamp(ran_ns, ran_ns.saturating_mul(MOST_CHARGED))
            .saturating_mul(VTIME_SCALE)
            .div_ceil(u64::from(self.weight().max(1)))
    }

    /// Charges the budget with `ran_ns` and says what is left.
    pub(super) fn charge(&self, ran_ns: u64, now_ns: u64) -> Allowance {
        let cap = u64::from(self.cap_percent());
        if cap == 0 {
            return Allowance::Unlimited;
        }
        let full = (CAP_PERIOD_NS * cap / 100) as i64;
        let mut budget = self.budget.lock();
        let since_ns = now_ns.saturating_sub(budget.filled_at_ns);
        budget.filled_at_ns = now_ns.max(budget.filled_at_ns);
        let earned_ns = (since_ns.saturating_mul(cap) / 100) as i64;
        budget.left_ns = budget.left_ns.saturating_add(earned_ns);
        // However far it is overdrawn, all of it is paid back.
        budget.left_ns = budget.left_ns.min(full).saturating_sub(ran_ns as i64);
        match u64::try_from(budget.left_ns) {
            Ok(left @ 1..) => Allowance::For(left),
            _ => {
                let resume = (CAP_RESUME_NS * cap as i64 / 100).min(full).max(1);
                let missing = resume.saturating_sub(budget.left_ns).unsigned_abs();
                Allowance::ParkUntil(now_ns.saturating_add((missing * 100).div_ceil(cap)))
            }
        }
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::new()
    }
}

/// Virtual time that one unit of the default weight uses in `ns`.
pub(super) const fn default_virtual_time(ns: u64) -> u64 {
    ns * VTIME_SCALE / DEFAULT_WEIGHT as u64
}
