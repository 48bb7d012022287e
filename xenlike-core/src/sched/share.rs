//! A domain's share of the machine: weight and cap, in the units of XEN_DOMCTL_scheduler_op, and the CPUs of its pool.

use crate::kit::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::kit::{CpuSet, Lock, Rank};

/// The weight of a domain unless the toolstack sets another.
pub const DEFAULT_WEIGHT: u16 = 256;
/// The budget of a capped domain grows up to what it may use in this time, in ns.
pub const CAP_PERIOD_NS: u64 = 30_000_000;
/// A parked domain waits until it may run for at least this long, for a cap of 100 %; in ns.
const CAP_RESUME_NS: i64 = 2_000_000;
/// At most this many units can run at once, and be charged for.
const MAX_CHARGED: u64 = crate::kit::MAX_CPUS as u64;
/// Virtual time advances by `VTIME_SCALE / weight` per nanosecond of CPU time; 1/16 at the default weight.
const VTIME_SCALE: u64 = 16;

/// The value is not a valid weight or cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange;

/// The bits for the number of active units: enough for the most vCPUs that a domain may have.
const COUNT_BITS: u32 = 10;

/// See [`Share::active_time`]. In ns, without the upper [`COUNT_BITS`] bits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ActiveTime(u64);

impl ActiveTime {
    /// The time from `start` to `self`; 0 if it appears negative, because the clocks of two CPUs may differ.
    fn since(self, start: Self) -> u64 {
        let signed = (self.0.wrapping_sub(start.0) << COUNT_BITS) as i64 >> COUNT_BITS;
        u64::try_from(signed).unwrap_or(0)
    }
}

/// The weight, cap, budget and pool of a domain.
#[derive(Debug)]
pub struct Share {
    weight: AtomicU16,
    /// The cap in percent of a physical CPU; 0 for none.
    cap_percent: AtomicU16,
    /// The number of active (runnable) units, in the lower [`COUNT_BITS`] bits. Above them, the sum of the times
    /// (ns) at which units became active minus the sum of the times at which they stopped. Both are in one word,
    /// so that they change together.
    activity: AtomicU64,
    budget: Lock<Budget>,
    /// The number of the domain's pool.
    pool: AtomicU32,
    /// The CPUs of the pool.
    cpus: AtomicU64,
}

#[derive(Debug)]
struct Budget {
    /// The CPU time that the domain may still use, in ns; negative if it is overdrawn.
    left_ns: i64,
    filled_at_ns: u64,
}

/// What a domain's cap allows now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// The domain has no cap.
    Unlimited,
    /// The domain may run for this long, in ns.
    For(u64),
    /// The domain may not run before this time, in ns.
    ParkUntil(u64),
}

impl Share {
    /// Makes a share with the default weight and without a cap.
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

    /// The number of the domain's pool.
    pub fn pool(&self) -> u32 {
        self.pool.load(Ordering::Relaxed)
    }
    /// The CPUs of the domain's pool.
    pub fn cpus(&self) -> CpuSet {
        CpuSet(self.cpus.load(Ordering::Relaxed))
    }
    /// Moves the domain to a pool with these CPUs. The caller makes all CPUs call the scheduler.
    pub fn set_pool(&self, pool: u32, cpus: CpuSet) {
        self.pool.store(pool, Ordering::Relaxed);
        self.cpus.store(cpus.0, Ordering::Relaxed);
    }

    /// The weight, from 1 to 65535.
    pub fn weight(&self) -> u16 {
        self.weight.load(Ordering::Relaxed)
    }
    /// Sets the weight; 0 is out of range.
    pub fn set_weight(&self, weight: u16) -> Result<(), OutOfRange> {
        if weight == 0 {
            return Err(OutOfRange);
        }
        self.weight.store(weight, Ordering::Relaxed);
        Ok(())
    }
    /// The cap in percent of a CPU; 0 for none.
    pub fn cap_percent(&self) -> u16 {
        self.cap_percent.load(Ordering::Relaxed)
    }
    /// Sets the cap; 0 removes it. 65535 is out of range, as the hypercall uses it for "no change".
    pub fn set_cap_percent(&self, percent: u16) -> Result<(), OutOfRange> {
        if percent == u16::MAX {
            return Err(OutOfRange);
        }
        self.cap_percent.store(percent, Ordering::Relaxed);
        Ok(())
    }

    /// Counts one more active unit, from `now_ns` on.
    pub(super) fn activate(&self, now_ns: u64) {
        self.activity
            .fetch_add(now_ns << COUNT_BITS | 1, Ordering::Relaxed);
    }
    /// Counts one active unit less, from `now_ns` on.
    pub(super) fn deactivate(&self, now_ns: u64) {
        self.activity
            .fetch_sub(now_ns << COUNT_BITS | 1, Ordering::Relaxed);
    }

    /// The sum of the times that the domain's units have been active. Only differences are meaningful.
    pub(super) fn active_time(&self, now_ns: u64) -> ActiveTime {
        let activity = self.activity.load(Ordering::Relaxed);
        let count = activity & ((1 << COUNT_BITS) - 1);
        // A unit that is active now has contributed its start and no end yet: adding the present for each completes the
        // sum.
        ActiveTime(
            count
                .wrapping_mul(now_ns)
                .wrapping_sub(activity >> COUNT_BITS),
        )
    }

    /// The virtual time that a unit pays for `ran_ns` of CPU time, if the domain's active time went from `start` to
    /// `end` meanwhile. All units that were active share the weight, so the more of them, the higher the price.
    pub(super) fn virtual_time(&self, ran_ns: u64, start: ActiveTime, end: ActiveTime) -> u64 {
        // The unit itself was active for all of `ran_ns`, and no more units than CPUs ran beside it.
        end.since(start)
            .clamp(ran_ns, ran_ns.saturating_mul(MAX_CHARGED))
            .saturating_mul(VTIME_SCALE)
            .div_ceil(u64::from(self.weight().max(1)))
    }

    /// Charges the budget with `ran_ns` and returns what the cap allows then.
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
        // An overdraft of any size is paid back in full.
        budget.left_ns = budget.left_ns.min(full).saturating_sub(ran_ns as i64);
        match u64::try_from(budget.left_ns) {
            Ok(left @ 1..) => Allowance::For(left),
            _ => {
                // Not as soon as there is any budget: turns that are too short would cost more than they give.
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

/// The virtual time that a unit of the default weight pays for `ns`, if it is its domain's only one.
pub(super) const fn default_virtual_time(ns: u64) -> u64 {
    ns * VTIME_SCALE / DEFAULT_WEIGHT as u64
}
