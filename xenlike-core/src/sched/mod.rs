//! Decides which virtual CPU runs where and for how long. Policy only, over ids and clock values; uses `kit` alone.
//!
//! Each physical CPU has a [`queue::RunQueue`] under a lock of its own. A schedulable *unit* (one vCPU) has a
//! home queue, whose lock guards its state. Units run in the order of their *virtual time*: CPU time divided by
//! weight. The weight belongs to the domain ([`share::Share`]) and is split among its active units. Virtual time
//! is comparable across queues, so a CPU that finds the next unit of another queue far behind its own takes that
//! unit over: weights hold machine-wide.
//!
//! * A unit that wakes is placed at most [`queue::WAKE_BONUS`] behind its queue: it goes ahead of CPU hogs, but can't
//!   save up more than that.
//! * A domain that has used up its cap is parked until its budget has grown again.
//! * A unit that was switched out stays bound to its CPU until [`Scheduler::saved`] reports that its registers are in
//!   memory, so no unit ever runs on two CPUs.
//! * A sleeping unit is in no queue and costs nothing; an idle CPU has no tick.
//!
//! `entry` asks [`Scheduler::pick`] and acts on the [`turn::Turn`]. Code that makes a vCPU runnable calls [`Scheduler::wake`]
//! and acts on the [`Ask`].

pub mod name;
pub mod place;
pub mod queue;
pub mod share;
pub mod slab;
#[cfg(test)]
mod tests;
pub mod turn;

use crate::kit::atomic::{AtomicU64, Ordering};
use alloc::sync::Arc;

use crate::kit::cell::PerCpu;
use crate::kit::indexed_heap::NoMemory;
use crate::kit::{AtomicCpuSet, CpuId, CpuSet, Lock, MAX_CPUS, Rank};
use queue::RunQueue;
use share::Share;
pub use slab::UnitId;
use slab::{Slab, State, Unit};
pub use turn::Choice;

/// The default of the longest time that a unit runs while others wait (`tslice_ms` in XEN_SYSCTL_scheduler_op), in ns.
pub const DEFAULT_SLICE_NS: u64 = 10_000_000;
/// The default of the shortest time that a unit runs before another may preempt it (`ratelimit_us`), in ns.
pub const DEFAULT_RATELIMIT_NS: u64 = 1_000_000;

/// The scheduler of all CPUs. `T` is the value that a [`turn::Turn`] returns for a unit (a vCPU reference).
pub struct Scheduler<T> {
    queues: PerCpu<RunQueue>,
    slab: Slab<T>,
    /// The CPUs that have a queue.
    present: AtomicCpuSet,
    /// The CPUs among them that run units.
    online: AtomicCpuSet,
    idle: AtomicCpuSet,
    /// The latest clock of all queues (virtual time). A queue that was empty restarts from there.
    clock: AtomicU64,
    slice_ns: AtomicU64,
    ratelimit_ns: AtomicU64,
    /// Serialises everything that changes the room that the queues need.
    growth: Lock<()>,
}

/// The unit can't be removed, because a CPU holds its registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy(
    /// The CPU that holds them.
    pub CpuId,
);

/// Which CPU must call [`Scheduler::pick`], and how soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Immediately: kick the CPU.
    Now(CpuId),
    /// By this time (ns), when its present turn will have to end.
    By(CpuId, u64),
    /// At the end of its present turn, which may be brought forward to this time (ns) if that takes no interrupt.
    Later(CpuId, u64),
}

impl Ask {
    /// The CPU to kick. A CPU that must ask by some time may as well ask now.
    pub const fn kick(self) -> Option<CpuId> {
        match self {
            Self::Now(cpu) | Self::By(cpu, _) => Some(cpu),
            Self::Later(..) => None,
        }
    }
}

/// The parameters of a new unit.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The share of the unit's domain.
    pub share: Arc<Share>,
    /// The CPUs on which it may run (hard affinity).
    pub hard: CpuSet,
    /// The CPUs on which it prefers to run (soft affinity).
    pub soft: CpuSet,
}

impl<T: Clone> Scheduler<T> {
    /// Makes a scheduler without CPUs and units.
    pub const fn new() -> Self {
        Self {
            queues: PerCpu::new([const { RunQueue::new() }; MAX_CPUS]),
            slab: Slab::new(),
            present: AtomicCpuSet::new(CpuSet::EMPTY),
            online: AtomicCpuSet::new(CpuSet::EMPTY),
            idle: AtomicCpuSet::new(CpuSet::EMPTY),
            clock: AtomicU64::new(0),
            slice_ns: AtomicU64::new(DEFAULT_SLICE_NS),
            ratelimit_ns: AtomicU64::new(DEFAULT_RATELIMIT_NS),
            growth: Lock::new(Rank::SchedulerGrowth, ()),
        }
    }

    /// Allows units to run on `cpu`.
    pub fn bring_online(&self, cpu: CpuId) -> Result<(), NoMemory> {
        let _growing = self.growth.lock();
        self.lock(cpu).reserve(self.slab.units())?;
        self.present.insert(cpu);
        self.online.insert(cpu);
        Ok(())
    }

    /// Allows units to run on `cpu` no longer; returns false if no other CPU is online. The caller makes that CPU call
    /// [`Scheduler::pick`], which moves its units elsewhere.
    pub fn take_offline(&self, cpu: CpuId) -> bool {
        let _alone = self.growth.lock();
        let others = self.online().without(CpuSet::one(cpu));
        !others.is_empty() && self.online.remove(cpu)
    }

    /// The CPUs that run units, and those that did until they were taken offline.
    pub fn present(&self) -> CpuSet {
        self.present.get()
    }

    /// The CPUs that run units.
    pub fn online(&self) -> CpuSet {
        self.online.get()
    }

    pub(crate) fn clock(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// The CPUs that have nothing to run.
    pub fn idle(&self) -> CpuSet {
        self.idle.get()
    }

    /// Adds a sleeping unit. `make` gets its id and returns the value that turns return for it.
    pub fn add(&self, spec: Spec, make: impl FnOnce(UnitId) -> T) -> Result<UnitId, NoMemory> {
        let _growing = self.growth.lock();
        let units = self.slab.units() + 1;
        for cpu in self.present().iter() {
            self.lock(cpu).reserve(units)?;
        }
        let home = self
            .emptiest(self.allowed(spec.hard, spec.share.cpus()))
            .unwrap_or(CpuId(0));
        self.slab.insert(home, |id| Unit::new(id, spec, make(id)))
    }

    /// Removes a unit for good and returns its value, or `None` if it doesn't exist any more. The caller has put it to
    /// sleep and waited until [`Scheduler::running_on`] returned `None`.
    pub fn remove(&self, id: UnitId, now_ns: u64) -> Result<Option<T>, Busy> {
        let _growing = self.growth.lock();
        let Some(mut queue) = self.lock_home(id) else {
            return Ok(None);
        };
        if self.slab.with(id, |unit| unit.on_cpu()) == Some(true) {
            return Err(Busy(queue.cpu));
        }
        self.dequeue(&mut queue, id);
        self.slab.with(id, |unit| unit.set_wanted(false, now_ns));
        Ok(self.slab.remove(id))
    }

    /// Makes the unit runnable. Returns which CPU must look again, and how soon.
    pub fn wake(&self, id: UnitId, now_ns: u64) -> Option<Ask> {
        let queue = self.lock_home(id)?;
        let (state, places) = self.slab.with(id, |unit| {
            unit.set_wanted(true, now_ns);
            (unit.state, unit.places())
        })?;
        match state {
            State::Queued | State::Parked | State::Running => None,
            State::Leaving => Some(Ask::Now(queue.cpu)),
            State::Asleep => self.settle_awake(queue, id, places, now_ns),
        }
    }

    /// Makes the unit not runnable. Returns the CPU to kick if the unit is running.
    pub fn sleep(&self, id: UnitId, now_ns: u64) -> Option<CpuId> {
        let mut queue = self.lock_home(id)?;
        let state = self.slab.with(id, |unit| {
            unit.set_wanted(false, now_ns);
            unit.state
        })?;
        match state {
            State::Running => return Some(queue.cpu),
            State::Queued | State::Parked => self.dequeue(&mut queue, id),
            State::Asleep | State::Leaving => {}
        }
        None
    }

    /// Lets others run before the unit that runs on `cpu`. The caller then calls [`Scheduler::pick`].
    pub fn yield_now(&self, cpu: CpuId) {
        self.lock(cpu).yielded = true;
    }

    /// The CPU that runs the unit or still holds its registers.
    pub fn running_on(&self, id: UnitId) -> Option<CpuId> {
        let queue = self.lock_home(id)?;
        let on_cpu = self.slab.with(id, |unit| unit.on_cpu())?;
        on_cpu.then_some(queue.cpu)
    }

    /// The CPU in whose queue the unit is.
    pub fn home(&self, id: UnitId) -> Option<CpuId> {
        self.slab.home(id)
    }

    /// The CPU time that the unit has used until it was last accounted, in ns.
    pub fn cpu_time_ns(&self, id: UnitId) -> u64 {
        self.slab.with(id, |unit| unit.ran_ns).unwrap_or(0)
    }

    /// The hard affinity and the soft affinity of the unit.
    pub fn affinity(&self, id: UnitId) -> Option<(CpuSet, CpuSet)> {
        self.slab.with(id, |unit| (unit.hard, unit.soft))
    }

    /// Sets hard and soft affinity; a unit on a CPU that is no longer allowed moves. Returns the CPU to kick.
    pub fn set_affinity(
        &self,
        id: UnitId,
        hard: CpuSet,
        soft: CpuSet,
        now_ns: u64,
    ) -> Option<CpuId> {
        let mut queue = self.lock_home(id)?;
        let (state, wanted, places) = self.slab.with(id, |unit| {
            (unit.hard, unit.soft) = (hard, soft);
            (unit.state, unit.wanted(), unit.places())
        })?;
        match state {
            State::Leaving => Some(queue.cpu),
            _ if self.may_run(places, queue.cpu) => self.helper(&queue),
            State::Running => Some(queue.cpu),
            _ if !wanted => None,
            _ => {
                self.dequeue(&mut queue, id);
                let ask = self.settle_awake(queue, id, places, now_ns);
                ask.and_then(Ask::kick)
            }
        }
    }

    /// The longest time that a unit runs while others wait, in ns.
    pub fn slice_ns(&self) -> u64 {
        self.slice_ns.load(Ordering::Relaxed)
    }
    /// Sets the slice in ns; at least 100 µs.
    pub fn set_slice_ns(&self, ns: u64) {
        self.slice_ns.store(ns.max(100_000), Ordering::Relaxed);
    }
    /// The shortest time that a unit runs before it may be preempted, in ns.
    pub fn ratelimit_ns(&self) -> u64 {
        self.ratelimit_ns.load(Ordering::Relaxed)
    }
    /// Sets the rate limit in ns; 0 disables it.
    pub fn set_ratelimit_ns(&self, ns: u64) {
        self.ratelimit_ns.store(ns, Ordering::Relaxed);
    }
}

impl<T: Clone> Default for Scheduler<T> {
    fn default() -> Self {
        Self::new()
    }
}
