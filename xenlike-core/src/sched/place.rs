//! Placement: which queue a unit goes to, how it is moved there, and work stealing.

use super::queue::{QueueGuard, QueueState};
use super::share::{Allowance, default_virtual_time};
use super::slab::{Places, State};
use super::{Ask, Scheduler, UnitId};
use crate::kit::{CpuId, CpuSet};

/// A woken unit preempts a running unit that is this much ahead of it (virtual time).
const PREEMPT_LEAD: u64 = default_virtual_time(500_000);
/// How many ready units of another queue a CPU considers to find one that it may run.
const LOOK_AT: usize = 16;

impl<T: Clone> Scheduler<T> {
    pub(super) fn lock(&self, cpu: CpuId) -> QueueGuard<'_> {
        self.queues.of(cpu).lock(cpu)
    }

    /// Locks the queue of the unit's home. The home may change before the lock is taken, so it is checked again.
    pub(super) fn lock_home(&self, id: UnitId) -> Option<QueueGuard<'_>> {
        loop {
            let home = self.slab.home(id)?;
            let queue = self.lock(home);
            if self.slab.home(id) == Some(home) {
                return Some(queue);
            }
        }
    }

    /// Locks the queues of two different CPUs. The lower number goes first, because its lock has the lower address.
    fn lock_two(&self, a: CpuId, b: CpuId) -> (QueueGuard<'_>, QueueGuard<'_>) {
        if a < b {
            let first = self.lock(a);
            (first, self.lock(b))
        } else {
            let first = self.lock(b);
            (self.lock(a), first)
        }
    }

    /// The CPUs on which a unit with this hard affinity and pool may run. If none of its CPUs is online, any CPU of the
    /// pool; if none of the pool's is, any CPU.
    pub(super) fn allowed(&self, hard: CpuSet, pool: CpuSet) -> CpuSet {
        let among = |set: CpuSet, all: CpuSet| match set.and(all) {
            both if both.is_empty() => all,
            both => both,
        };
        among(hard, among(pool, self.online()))
    }

    /// Whether a unit with these places may run on `cpu`.
    pub(super) fn may_run(&self, places: Places, cpu: CpuId) -> bool {
        self.allowed(places.hard, places.pool).contains(cpu)
    }

    /// The CPU of `among` with the fewest units to run.
    pub(super) fn emptiest(&self, among: CpuSet) -> Option<CpuId> {
        let online = among.and(self.online());
        online.iter().min_by_key(|&cpu| self.queues.of(cpu).load())
    }

    /// Chooses the CPU for a unit that wakes: preferably an idle one, and preferably its home.
    fn choose(&self, home: CpuId, places: Places) -> CpuId {
        let allowed = self.allowed(places.hard, places.pool);
        let liked = allowed.and(places.soft);
        let idle = self.idle.get();
        for set in [liked.and(idle), allowed.and(idle)] {
            if set.contains(home) {
                return home;
            }
            if let Some(cpu) = set.first() {
                return cpu;
            }
        }
        let set = if liked.is_empty() { allowed } else { liked };
        if set.contains(home) {
            return home;
        }
        self.emptiest(set).unwrap_or(home)
    }

    /// Finds a queue for a unit that is in none but is runnable. `queue` is that of its home. Returns which CPU must
    /// look again, and how soon.
    pub(super) fn settle_awake<'a>(
        &'a self,
        mut queue: QueueGuard<'a>,
        id: UnitId,
        places: Places,
        now_ns: u64,
    ) -> Option<Ask> {
        let home = queue.cpu;
        let target = self.choose(home, places);
        if target != home {
            // Two queues are locked in the order of their CPUs' numbers, so the first one must be unlocked before.
            drop(queue);
            let (old, new) = self.lock_two(home, target);
            // Another CPU may have woken, moved or stopped the unit while no lock was held; then there is nothing left
            // to do.
            let state = self
                .slab
                .with(id, |unit| unit.wanted().then_some(unit.state));
            if self.slab.home(id) != Some(home) || state != Some(Some(State::Asleep)) {
                return None;
            }
            self.slab.set_home(id.slot, target);
            drop(old);
            queue = new;
        }
        self.enqueue_woken(&mut queue, id, now_ns)
    }

    /// Inserts a woken unit into its home's queue. Returns whether and how soon the CPU must look again.
    fn enqueue_woken(&self, queue: &mut QueueGuard<'_>, id: UnitId, now_ns: u64) -> Option<Ask> {
        // The clock of a queue without units has stood still; it catches up with the other queues.
        if queue.current.is_none() && queue.ready.is_empty() {
            queue.min_vtime = queue.min_vtime.max(self.clock());
        }
        let (state, vtime) = self.enqueue_placed(queue, id.slot, now_ns)?;
        let ask = match state {
            State::Parked => {
                let first = queue.parked.first().is_some_and(|item| item.1 == id.slot);
                (first || queue.current.is_none()).then_some(Ask::Now(queue.cpu))
            }
            _ => self.turn_of_woken(queue, vtime, now_ns),
        };
        if queue.idle && matches!(ask, Some(Ask::Now(_))) {
            // The idle CPU is taken, so that the next unit that wakes finds another one.
            queue.idle = false;
            self.idle.remove(queue.cpu);
        }
        ask
    }

    /// Inserts a runnable unit into the ready or the parked heap of its home.
    pub(super) fn enqueue(&self, queue: &mut QueueGuard<'_>, slot: u32, now_ns: u64) {
        self.enqueue_as(queue, slot, now_ns, |_, vtime| vtime);
    }

    /// Like [`Self::enqueue`], for a unit that comes from elsewhere or has paused: its virtual time is adjusted to the
    /// queue. Returns the unit's state and its virtual time.
    pub(super) fn enqueue_placed(
        &self,
        queue: &mut QueueGuard<'_>,
        slot: u32,
        now_ns: u64,
    ) -> Option<(State, u64)> {
        self.enqueue_as(queue, slot, now_ns, QueueState::place)
    }

    fn enqueue_as(
        &self,
        queue: &mut QueueGuard<'_>,
        slot: u32,
        now_ns: u64,
        place: impl FnOnce(&QueueState, u64) -> u64,
    ) -> Option<(State, u64)> {
        self.slab.with_slot(slot, |unit| {
            unit.vtime = place(queue, unit.vtime);
            match unit.share.charge(0, now_ns) {
                Allowance::ParkUntil(time) => {
                    unit.state = State::Parked;
                    queue.parked.push(time, slot, &self.slab);
                }
                _ => {
                    unit.state = State::Queued;
                    queue.ready.push(unit.vtime, slot, &self.slab);
                }
            }
            (unit.state, unit.vtime)
        })
    }

    /// Removes a queued or parked unit from the heaps of its home.
    pub(super) fn dequeue(&self, queue: &mut QueueGuard<'_>, id: UnitId) {
        self.slab.with(id, |unit| {
            match unit.state {
                State::Queued => queue.ready.remove(id.slot, &self.slab),
                State::Parked => queue.parked.remove(id.slot, &self.slab),
                _ => return,
            };
            unit.state = State::Asleep;
        });
    }

    /// When a unit that was queued at `ours` gets its turn: immediately if it is far behind the running unit. If it
    /// must wait, the running unit's turn may have to end sooner than the CPU was told.
    fn turn_of_woken(&self, queue: &mut QueueGuard<'_>, ours: u64, now_ns: u64) -> Option<Ask> {
        let now = Some(Ask::Now(queue.cpu));
        let Some(running) = queue.current else {
            return now;
        };
        let ran_ns = now_ns.saturating_sub(queue.charged_at_ns);
        let theirs = self.slab.with_slot(running, |unit| {
            unit.vtime.saturating_add(unit.cost(ran_ns, now_ns))
        });
        let Some(theirs) = theirs else {
            return now;
        };
        let until_ns = self.stays_until(queue, theirs, ours, now_ns);
        // The present turn ends early enough.
        if until_ns >= queue.turn_ends_ns {
            return None;
        }
        // The running unit is behind, so it may use its slice; no interrupt is worth ending that sooner.
        if theirs <= ours {
            return Some(Ask::Later(queue.cpu, until_ns));
        }
        // Other units waited already when the turn's end was set. A small lead is no reason to change it.
        if queue.ready.len() > 1 && ours.saturating_add(PREEMPT_LEAD) >= theirs {
            return None;
        }
        queue.turn_ends_ns = until_ns;
        Some(if until_ns <= now_ns {
            Ask::Now(queue.cpu)
        } else {
            Ask::By(queue.cpu, until_ns)
        })
    }

    /// How long a unit at `theirs` may run on while a unit at `ours` waits: for a slice if it is behind, otherwise
    /// until the rate limit allows preemption.
    pub(super) fn stays_until(
        &self,
        queue: &QueueGuard<'_>,
        theirs: u64,
        ours: u64,
        now_ns: u64,
    ) -> u64 {
        if theirs <= ours {
            now_ns.saturating_add(self.slice_ns())
        } else {
            queue.turn_started_ns.saturating_add(self.ratelimit_ns())
        }
    }

    /// An idle CPU that may run one of the first ready units of the queue.
    pub(super) fn helper(&self, queue: &QueueGuard<'_>) -> Option<CpuId> {
        let idle = self
            .idle
            .get()
            .and(self.online())
            .without(CpuSet::one(queue.cpu));
        if idle.is_empty() {
            return None;
        }
        let ready = queue.ready.near_front(LOOK_AT).iter();
        ready
            .filter_map(|item| {
                let places = self.slab.with_slot(item.1, |unit| unit.places())?;
                idle.and(self.allowed(places.hard, places.pool)).first()
            })
            .next()
    }

    /// Moves a ready unit from another queue to that of `cpu`, if there is one with a virtual time below `behind`.
    /// Tries the queues in the order of their first unit's published virtual time, each at most once.
    pub(super) fn steal(&self, cpu: CpuId, behind: u64, now_ns: u64) {
        let others = self.online().without(CpuSet::one(cpu));
        let mut victims = others;
        for _ in 0..others.count() {
            let Some(victim) = victims
                .iter()
                .min_by_key(|&cpu| self.queues.of(cpu).first_vtime())
            else {
                return;
            };
            if self.queues.of(victim).first_vtime() >= behind
                || self.steal_from(victim, cpu, behind, now_ns)
            {
                return;
            }
            victims = victims.without(CpuSet::one(victim));
        }
    }

    fn steal_from(&self, victim: CpuId, thief: CpuId, behind: u64, now_ns: u64) -> bool {
        let (mut from, mut to) = self.lock_two(victim, thief);
        let best = from
            .ready
            .near_front(LOOK_AT)
            .iter()
            .filter(|item| item.0 < behind)
            .filter_map(|item| {
                self.slab.with_slot(item.1, |unit| {
                    let parked = matches!(unit.share.charge(0, now_ns), Allowance::ParkUntil(_));
                    let may = self.may_run(unit.places(), thief) && !parked;
                    // Prefers units that prefer this CPU, then the smallest virtual time.
                    may.then_some((!unit.soft.contains(thief), item.0, unit.id))
                })?
            })
            .min_by_key(|unit| (unit.0, unit.1));
        let Some((.., id)) = best else {
            return false;
        };
        from.ready.remove(id.slot, &self.slab);
        self.slab.set_home(id.slot, thief);
        // As for a woken unit: the clock of a queue without units catches up.
        if to.current.is_none() && to.ready.is_empty() {
            to.min_vtime = to.min_vtime.max(self.clock());
        }
        self.slab.with(id, |unit| {
            unit.vtime = to.place(unit.vtime);
            to.ready.push(unit.vtime, id.slot, &self.slab);
        });
        true
    }
}
