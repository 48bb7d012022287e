//! The decision of a CPU: which unit runs next, and for how long.

use crate::kit::atomic::Ordering;

use super::queue::QueueGuard;
use super::share::{Allowance, default_virtual_time};
use super::slab::{State, Unit};
use super::{Ask, Scheduler, UnitId};
use crate::kit::CpuId;

/// How often a busy CPU compares its queue with the others, and how long a unit without competitors runs before
/// it is accounted; in ns.
const LOOK_AROUND_NS: u64 = 30_000_000;
/// A unit of another queue is taken over if it is this far behind this CPU's units (virtual time).
const STEAL_LEAD: u64 = default_virtual_time(20_000_000);
/// The shortest turn that is worth a timer interrupt, in ns.
const MIN_TURN_NS: u64 = 200_000;

/// What a CPU must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn<T> {
    /// Which unit runs from now on.
    pub choice: Choice<T>,
    /// The time (ns) by which the CPU must ask again; `None` for an idle CPU that needs no timer.
    pub until_ns: Option<u64>,
    /// An idle CPU that could take over work from this one, to be kicked.
    pub kick: Option<CpuId>,
}

/// Which unit runs on a CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice<T> {
    /// The unit whose registers this CPU holds continues.
    Stay,
    /// This unit runs. Once the registers of the previous unit are in memory, call [`Scheduler::saved`].
    Switch(UnitId, T),
    /// No unit runs, and the CPU idles. Once the registers of the previous unit are in memory, call
    /// [`Scheduler::saved`].
    Idle,
}

/// The unit whose registers the CPU holds.
#[derive(Clone, Copy)]
struct Holder {
    slot: u32,
    vtime: u64,
    /// Whether it is runnable, may run here, and has budget.
    eligible: bool,
    /// What its domain's cap allows.
    allowance: Allowance,
}

/// A ready unit that could run next.
#[derive(Clone, Copy)]
struct Candidate {
    slot: u32,
    vtime: u64,
    allowance: Allowance,
    /// Whether it may run here. The queue of a CPU that goes offline contains units that may not, and a CPU that comes
    /// back leaves units in other queues that may only run on it.
    here: bool,
}

impl<T> Turn<T> {
    /// The turn of a CPU whose previous unit is not saved yet: it must finish that switch first.
    const fn finish_switch(now_ns: u64) -> Self {
        Self {
            choice: Choice::Stay,
            until_ns: Some(now_ns + MIN_TURN_NS),
            kick: None,
        }
    }
}

impl<T: Clone> Scheduler<T> {
    /// Accounts the unit that runs on `cpu` and decides what the CPU does next.
    pub fn pick(&self, cpu: CpuId, now_ns: u64) -> Turn<T> {
        let mut queue = self.lock(cpu);
        let mut holder = self.account(&mut queue, now_ns);
        self.unpark(&mut queue, now_ns);
        let mut first = self.first_with_budget(&mut queue, now_ns);
        if let Some(behind) = self.looks_around(&mut queue, holder, first, now_ns) {
            // Stealing locks two queues in order, so this one is unlocked before, and accounted again afterwards.
            drop(queue);
            self.steal(cpu, behind, now_ns);
            queue = self.lock(cpu);
            holder = self.account(&mut queue, now_ns);
            first = self.first_with_budget(&mut queue, now_ns);
        }
        if let Some(misplaced) = first.filter(|first| !first.here) {
            return self.send_away(queue, holder, misplaced.slot, now_ns);
        }
        let turn = self.decide(&mut queue, holder, first, now_ns);
        let running_vtime = self.current_vtime(&queue);
        queue.advance(running_vtime);
        self.clock.fetch_max(queue.min_vtime, Ordering::Relaxed);
        turn
    }

    /// Records that the registers of the unit that `cpu` switched away from are in memory, so that it may run
    /// elsewhere. Returns the CPU to kick.
    pub fn saved(&self, cpu: CpuId, now_ns: u64) -> Option<CpuId> {
        let mut queue = self.lock(cpu);
        let slot = queue.leaving.take()?;
        let (id, places) = self.slab.with_slot(slot, |unit| {
            unit.state = State::Asleep;
            unit.wanted().then_some((unit.id, unit.places()))
        })??;
        if !self.may_run(places, cpu) {
            return self
                .settle_awake(queue, id, places, now_ns)
                .and_then(Ask::kick);
        }
        self.enqueue(&mut queue, slot, now_ns);
        if queue.current.is_none() {
            Some(cpu)
        } else {
            self.helper(&queue)
        }
    }

    /// Charges the running unit for the time since it was last accounted.
    fn account(&self, queue: &mut QueueGuard<'_>, now_ns: u64) -> Option<Holder> {
        let ran_ns = match queue.current {
            Some(_) => now_ns.saturating_sub(queue.charged_at_ns),
            None => 0,
        };
        queue.charged_at_ns = now_ns.max(queue.charged_at_ns);
        let slot = queue.current.or(queue.leaving)?;
        let holder = self.slab.with_slot(slot, |unit| {
            unit.vtime = unit.vtime.saturating_add(unit.cost(ran_ns, now_ns));
            unit.accounted_at = unit.share.active_time(now_ns);
            unit.ran_ns = unit.ran_ns.saturating_add(ran_ns);
            let allowance = unit.share.charge(ran_ns, now_ns);
            let parked = matches!(allowance, Allowance::ParkUntil(_));
            let here = self.may_run(unit.places(), queue.cpu);
            Holder {
                slot,
                vtime: unit.vtime,
                eligible: unit.wanted() && here && !parked,
                allowance,
            }
        })?;
        Some(holder)
    }

    /// Makes parked units ready whose time has come.
    fn unpark(&self, queue: &mut QueueGuard<'_>, now_ns: u64) {
        // Each unit leaves the heap or moves to its end, so the length bounds the work.
        for _ in 0..queue.parked.len() {
            match queue.parked.first() {
                Some((time, slot)) if time <= now_ns => {
                    queue.parked.remove(slot, &self.slab);
                    self.enqueue_placed(queue, slot, now_ns);
                }
                _ => return,
            }
        }
    }

    /// Whether the CPU should look for work in other queues; if so, the virtual time below which it takes a unit over.
    fn looks_around(
        &self,
        queue: &mut QueueGuard<'_>,
        holder: Option<Holder>,
        first: Option<Candidate>,
        now_ns: u64,
    ) -> Option<u64> {
        let ours = holder
            .filter(|holder| holder.eligible)
            .map(|holder| holder.vtime);
        let Some(best) = ours.into_iter().chain(first.map(|first| first.vtime)).min() else {
            return Some(u64::MAX);
        };
        if now_ns.saturating_sub(queue.looked_around_ns) < LOOK_AROUND_NS {
            return None;
        }
        queue.looked_around_ns = now_ns;
        Some(best.saturating_sub(STEAL_LEAD))
    }

    /// Decides between the unit whose registers the CPU holds and the first ready one.
    fn decide(
        &self,
        queue: &mut QueueGuard<'_>,
        holder: Option<Holder>,
        first: Option<Candidate>,
        now_ns: u64,
    ) -> Turn<T> {
        let yielded = core::mem::take(&mut queue.yielded);
        if queue.is_switching() {
            return Turn::finish_switch(now_ns);
        }
        let stays = holder.filter(|holder| holder.eligible);
        let until_ns = |(holder, first): (Holder, Candidate)| {
            self.stays_until(queue, holder.vtime, first.vtime, now_ns)
        };
        let until_ns = stays.zip(first).map_or(now_ns, until_ns);
        // The holder continues while it may; a ready unit, or none, decides for how long.
        match (stays, first) {
            (Some(holder), Some(_)) if !yielded && until_ns > now_ns => {
                self.stay(queue, holder, until_ns, now_ns)
            }
            (Some(holder), None) => self.stay(queue, holder, now_ns + LOOK_AROUND_NS, now_ns),
            (_, Some(first)) => {
                // After a yield the holder must not be the first again, even if it is behind.
                if let (true, Some(holder)) = (yielded, stays) {
                    let after = first.vtime.saturating_add(1);
                    self.slab
                        .with_slot(holder.slot, |unit| unit.vtime = unit.vtime.max(after));
                }
                self.switch(queue, first, now_ns)
            }
            (None, None) => self.go_idle(queue, holder),
        }
    }

    /// A turn in which a ready unit that may not run here is moved elsewhere. There may be more such units, so the CPU
    /// must ask again at once; its own unit continues until then.
    #[cold]
    #[inline(never)]
    fn send_away(
        &self,
        mut queue: QueueGuard<'_>,
        holder: Option<Holder>,
        slot: u32,
        now_ns: u64,
    ) -> Turn<T> {
        if queue.is_switching() {
            return Turn::finish_switch(now_ns);
        }
        let mut turn = match holder.filter(|holder| holder.eligible) {
            Some(holder) => self.stay(&mut queue, holder, now_ns, now_ns),
            None => self.go_idle(&mut queue, holder),
        };
        turn.until_ns = Some(now_ns);
        let unit = |unit: &mut Unit<T>| (unit.id, unit.places());
        if let Some((id, places)) = self.slab.with_slot(slot, unit) {
            self.dequeue(&mut queue, id);
            let ask = self.settle_awake(queue, id, places, now_ns);
            turn.kick = ask.and_then(Ask::kick).or(turn.kick);
        }
        turn
    }

    /// The first ready unit whose domain has budget. Units without budget are parked on the way.
    fn first_with_budget(&self, queue: &mut QueueGuard<'_>, now_ns: u64) -> Option<Candidate> {
        loop {
            let (vtime, slot) = queue.ready.first()?;
            let (allowance, places) = self
                .slab
                .with_slot(slot, |unit| (unit.share.charge(0, now_ns), unit.places()))?;
            let Allowance::ParkUntil(time) = allowance else {
                return Some(Candidate {
                    slot,
                    vtime,
                    allowance,
                    here: self.may_run(places, queue.cpu),
                });
            };
            queue.ready.remove(slot, &self.slab);
            queue.parked.push(time, slot, &self.slab);
            self.slab.with_slot(slot, |unit| unit.state = State::Parked);
        }
    }

    fn stay(
        &self,
        queue: &mut QueueGuard<'_>,
        holder: Holder,
        until_ns: u64,
        now_ns: u64,
    ) -> Turn<T> {
        if queue.current.is_none() {
            queue.leaving = None;
            queue.current = Some(holder.slot);
            queue.turn_started_ns = now_ns;
            self.slab.with_slot(holder.slot, |unit| {
                unit.state = State::Running;
                unit.vtime = queue.place(unit.vtime);
            });
        }
        self.set_idle(queue, false);
        let until_ns = self.turn_end(queue, until_ns, holder.allowance, now_ns);
        Turn {
            choice: Choice::Stay,
            until_ns: Some(until_ns),
            kick: self.helper(queue),
        }
    }

    fn switch(&self, queue: &mut QueueGuard<'_>, first: Candidate, now_ns: u64) -> Turn<T> {
        let slot = first.slot;
        self.leave(queue);
        queue.ready.remove(slot, &self.slab);
        queue.current = Some(slot);
        queue.charged_at_ns = now_ns;
        queue.turn_started_ns = now_ns;
        self.set_idle(queue, false);
        let until_ns = self.turn_end(queue, now_ns + self.slice_ns(), first.allowance, now_ns);
        let choice = self.slab.with_slot(slot, |unit| {
            unit.state = State::Running;
            unit.accounted_at = unit.share.active_time(now_ns);
            Choice::Switch(unit.id, unit.owner.clone())
        });
        Turn {
            choice: choice.unwrap_or(Choice::Idle),
            until_ns: Some(until_ns),
            kick: self.helper(queue),
        }
    }

    fn go_idle(&self, queue: &mut QueueGuard<'_>, holder: Option<Holder>) -> Turn<T> {
        self.leave(queue);
        self.set_idle(queue, true);
        let holder_ns = holder.and_then(|holder| match holder.allowance {
            Allowance::ParkUntil(time) => Some(time),
            _ => None,
        });
        let parked_ns = queue.parked.first().map(|item| item.0);
        Turn {
            choice: Choice::Idle,
            until_ns: parked_ns.into_iter().chain(holder_ns).min(),
            kick: None,
        }
    }

    /// Stops the running unit, which the CPU holds until it is saved.
    fn leave(&self, queue: &mut QueueGuard<'_>) {
        if let Some(slot) = queue.current.take() {
            queue.leaving = Some(slot);
            self.slab
                .with_slot(slot, |unit| unit.state = State::Leaving);
        }
    }

    fn turn_end(
        &self,
        queue: &mut QueueGuard<'_>,
        until_ns: u64,
        allowance: Allowance,
        now_ns: u64,
    ) -> u64 {
        let budget_ns = match allowance {
            Allowance::For(left_ns) => now_ns.saturating_add(left_ns.max(MIN_TURN_NS)),
            _ => u64::MAX,
        };
        let parked_ns = queue.parked.first().map_or(u64::MAX, |item| item.0);
        queue.turn_ends_ns = until_ns
            .min(budget_ns)
            .min(parked_ns.max(now_ns + MIN_TURN_NS));
        queue.turn_ends_ns
    }

    fn set_idle(&self, queue: &mut QueueGuard<'_>, idle: bool) {
        if queue.idle != idle {
            queue.idle = idle;
            if idle {
                self.idle.insert(queue.cpu)
            } else {
                self.idle.remove(queue.cpu)
            };
        }
    }

    fn current_vtime(&self, queue: &QueueGuard<'_>) -> Option<u64> {
        self.slab.with_slot(queue.current?, |unit| unit.vtime)
    }
}
