//! The run queue of a CPU: ready and parked units, the unit that runs, and the queue's clock.

use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering};
use core::ops::{Deref, DerefMut};

use super::share::default_virtual_time;
use crate::kit::indexed_heap::{IndexedHeap, NoMemory};
use crate::kit::lock::LockGuard;
use crate::kit::{CpuId, Lock, Rank};

/// How far behind its queue a unit may be placed when it wakes or arrives (virtual time).
pub(super) const WAKE_BONUS: u64 = default_virtual_time(5_000_000);
/// How far ahead of its new queue a unit from another queue may be placed (virtual time).
pub(super) const MAX_AHEAD: u64 = default_virtual_time(60_000_000);

/// A run queue, with the figures that other CPUs read without its lock.
pub(super) struct RunQueue {
    state: Lock<QueueState>,
    /// The virtual time of the first ready unit; `u64::MAX` if there is none.
    first_vtime: AtomicU64,
    /// The number of units that run or are ready.
    load: AtomicU32,
}

/// The part of a run queue that the lock guards.
pub(super) struct QueueState {
    /// The ready units, by virtual time.
    pub ready: IndexedHeap,
    /// The units of domains over their cap, by the time at which they may continue (ns).
    pub parked: IndexedHeap,
    /// The slot of the unit that runs.
    pub current: Option<u32>,
    /// The slot of the unit that was switched out but is not saved yet.
    pub leaving: Option<u32>,
    /// The time up to which `current` has been accounted (ns).
    pub charged_at_ns: u64,
    /// The time at which `current` began to run, without interruption since (ns).
    pub turn_started_ns: u64,
    /// The time at which `current` must give way at the latest, as this CPU was told (ns).
    pub turn_ends_ns: u64,
    /// The time at which this CPU last looked at the other queues (ns).
    pub looked_around_ns: u64,
    /// Whether `current` asked to let others run first.
    pub yielded: bool,
    /// Whether the CPU is in the scheduler's set of idle CPUs.
    pub idle: bool,
    /// The queue's clock (virtual time): no ready unit is much behind it. It never goes back.
    pub min_vtime: u64,
}

impl RunQueue {
    pub const fn new() -> Self {
        Self {
            state: Lock::new(
                Rank::RunQueue,
                QueueState {
                    ready: IndexedHeap::new(),
                    parked: IndexedHeap::new(),
                    current: None,
                    leaving: None,
                    charged_at_ns: 0,
                    turn_started_ns: 0,
                    turn_ends_ns: 0,
                    looked_around_ns: 0,
                    yielded: false,
                    idle: false,
                    min_vtime: 0,
                },
            ),
            first_vtime: AtomicU64::new(u64::MAX),
            load: AtomicU32::new(0),
        }
    }

    /// Locks the queue, which is that of `cpu`.
    pub fn lock(&self, cpu: CpuId) -> QueueGuard<'_> {
        QueueGuard {
            cpu,
            public: self,
            state: self.state.lock(),
        }
    }
    /// The virtual time of the first ready unit as last published; `u64::MAX` if there is none.
    pub fn first_vtime(&self) -> u64 {
        self.first_vtime.load(Ordering::Relaxed)
    }
    /// The number of units that run or are ready, as last published.
    pub fn load(&self) -> u32 {
        self.load.load(Ordering::Relaxed)
    }
}

impl QueueState {
    /// Whether a unit runs while the previous one is not saved yet.
    pub const fn is_switching(&self) -> bool {
        self.current.is_some() && self.leaving.is_some()
    }

    /// Reserves room for `units` units in each heap.
    pub fn reserve(&mut self, units: usize) -> Result<(), NoMemory> {
        self.ready.reserve(units)?;
        self.parked.reserve(units)
    }

    /// The virtual time in this queue of a unit that arrives with `vtime`.
    pub fn place(&self, vtime: u64) -> u64 {
        let least = self.min_vtime.saturating_sub(WAKE_BONUS);
        vtime.clamp(least, self.min_vtime.saturating_add(MAX_AHEAD))
    }

    /// Advances the queue's clock to the smallest virtual time of all units that compete here.
    pub fn advance(&mut self, running_vtime: Option<u64>) {
        let first = self.ready.first().map(|item| item.0);
        let behind = match (first, running_vtime) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.min_vtime = self.min_vtime.max(behind.unwrap_or(0));
    }
}

/// A locked run queue. Unlocking publishes what other CPUs may read without the lock.
pub(super) struct QueueGuard<'a> {
    pub cpu: CpuId,
    public: &'a RunQueue,
    state: LockGuard<'a, QueueState>,
}

impl Deref for QueueGuard<'_> {
    type Target = QueueState;
    fn deref(&self) -> &QueueState {
        &self.state
    }
}

impl DerefMut for QueueGuard<'_> {
    fn deref_mut(&mut self) -> &mut QueueState {
        &mut self.state
    }
}

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        let first = self.ready.first().map_or(u64::MAX, |item| item.0);
        self.public.first_vtime.store(first, Ordering::Relaxed);
        let load = self.ready.len() as u32 + u32::from(self.current.is_some());
        self.public.load.store(load, Ordering::Relaxed);
    }
}
