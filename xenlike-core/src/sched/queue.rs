//! One CPU's run queue.

use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering};
use core::ops::{Deref, DerefMut};

use super::share::default_virtual_time;
use crate::kit::heap::{IndexedHeap, NoMemory};
use crate::kit::lock::LockGuard;
use crate::kit::{CpuId, Lock, Rank};

/// How far behind its queue a unit may be placed when it wakes or arrives (virtual time).
pub(super) const WAKE_BONUS: u64 = default_virtual_time(5_000_000);
/// How far ahead of its new queue a unit may be that comes from another (virtual time).
pub(super) const MOST_AHEAD: u64 = default_virtual_time(60_000_000);

/// A run queue and what others may see of it without its lock.
pub(super) struct RunQueue {
    state: Lock<QueueState>,
    /// Virtual time of the first ready unit; `u64::MAX` without one.
    first_vtime: AtomicU64,
    /// Units that run or are ready.
    load: AtomicU32,
}

/// What the lock guards.
pub(super) struct QueueState {
    /// Ready units by virtual time.
    pub ready: IndexedHeap,
    /// Units of domains over their cap, by the time they may go on (ns).
    pub parked: IndexedHeap,
    /// The slot of the unit that runs.
    pub current: Option<u32>,
    /// The slot of the unit that was switched out but is not saved yet.
    pub leaving: Option<u32>,
    /// Up to when `current` has been accounted (ns).
    pub charged_at_ns: u64,
    /// Since when `current` runs without a break (ns).
    pub turn_started_ns: u64,
    /// When `current` has to make room at the latest, as this CPU was told (ns).
    pub turn_ends_ns: u64,
    /// When this CPU last looked at the other queues (ns).
    pub looked_around_ns: u64,
    /// `current` asked to let others go first.
    pub yielded: bool,
    /// The CPU is in the scheduler's set of idle ones.
    pub idle: bool,
    /// The queue's clock: no ready unit is much behind it. Never goes back.
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
    /// Virtual time of the first ready unit as last published; `u64::MAX` without one.
    pub fn first_vtime(&self) -> u64 {
        self.first_vtime.load(Ordering::Relaxed)
    }
    /// Units that run or are ready, as last published.
    pub fn load(&self) -> u32 {
        self.load.load(Ordering::Relaxed)
    }
}

impl QueueState {
    /// Whether one unit runs and the one before is not saved yet.
    pub const fn is_switching(&self) -> bool {
        self.current.is_some() && self.leaving.is_some()
    }

    /// Makes room for `units` in all.
    pub fn reserve(&mut self, units: usize) -> Result<(), NoMemory> {
        self.ready.reserve(units)?;
        self.parked.reserve(units)
    }

    /// Where in virtual time a unit at `vtime` stands when it comes to this queue.
    pub fn place(&self, vtime: u64) -> u64 {
        let least = self.min_vtime.saturating_sub(WAKE_BONUS);
        vtime.clamp(least, self.min_vtime.saturating_add(MOST_AHEAD))
    }

    /// Moves the queue's clock on, if all who compete here are past it.
    pub fn advance(&mut self, running_vtime: Option<u64>) {
        let first = self.ready.first().map(|item| item.0);
        let behind = match (first, running_vtime) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.min_vtime = self.min_vtime.max(behind.unwrap_or(0));
    }
}

/// A locked run queue; publishes what others may see when it is let go.
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
