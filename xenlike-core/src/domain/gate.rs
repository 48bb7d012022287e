//! Whether a vCPU may run, and which CPU owns its state: the protocol of waking, holding and switching.
//!
//! A vCPU may run while it has no *holds* ([`super::vcpu::pause`]). Any CPU may set and remove holds, and reports each change
//! to the scheduler afterwards. So the scheduler's view is sometimes out of date:
//!
//! * A wake that is in flight when a hold is set leaves the vCPU queued. Therefore a CPU that switches to a vCPU reads the
//!   holds *after* it has acquired the state ([`Gate::enter`]).
//! * A sleep may be reported after the wake by the CPU that removed the last hold. Therefore the holds are read again after
//!   each sleep ([`Gate::settle`]).
//!
//! It follows that, after a hold was set, a successful [`Gate::visit`] proves that the vCPU is on no CPU, and that it stays
//! off until the hold is removed: a CPU that acquires the state later does so after the visit's release, and sees the hold.

use crate::kit::atomic::{AtomicU32, Ordering};
use crate::kit::cell::{OwnerCell, Visit};
use crate::kit::lock::wait_step;

/// How changes of one vCPU are reported to the scheduler.
pub trait Schedule {
    /// The vCPU wants to run.
    fn wake(&self);
    /// The vCPU doesn't want to run; a CPU that runs it has to schedule.
    fn sleep(&self);
}

/// The holds of a vCPU, and its state, which belongs to the CPU that runs it.
pub struct Gate<S> {
    holds: AtomicU32,
    state: OwnerCell<S>,
}

impl<S> Gate<S> {
    /// Makes the gate of a vCPU that has these holds and is on no CPU.
    pub const fn new(holds: u32, state: S) -> Self {
        Self {
            holds: AtomicU32::new(holds),
            state: OwnerCell::new(state),
        }
    }

    /// The reasons why it doesn't run.
    #[inline]
    pub fn holds(&self) -> u32 {
        // Sequentially consistent: ordered after the store that sets an event's bit, see `notify::upcall`.
        self.holds.load(Ordering::SeqCst)
    }

    /// Sets the hold `why` without a report to the scheduler, for the vCPU that runs here: its CPU schedules next.
    #[inline]
    pub fn set(&self, why: u32) {
        self.holds.fetch_or(why, Ordering::SeqCst);
    }

    /// Removes `why` without a report to the scheduler; returns the bits of it that were set.
    #[inline]
    pub fn remove(&self, why: u32) -> u32 {
        self.holds.fetch_and(!why, Ordering::AcqRel) & why
    }

    /// Tells the scheduler that the vCPU is ready, if it has no holds.
    pub fn wake(&self, scheduler: &impl Schedule) {
        if self.holds() == 0 {
            scheduler.wake();
        }
    }

    /// Puts the vCPU to sleep, if it has holds.
    pub fn settle(&self, scheduler: &impl Schedule) {
        if self.holds() != 0 {
            self.sleep(scheduler);
        }
    }

    fn sleep(&self, scheduler: &impl Schedule) {
        scheduler.sleep();
        self.wake(scheduler);
    }

    /// Sets the holds `why`. The vCPU may still be on its CPU when this returns.
    pub fn hold(&self, why: u32, scheduler: &impl Schedule) {
        self.set(why);
        self.sleep(scheduler);
    }

    /// Removes the holds `why`, and wakes the vCPU if that was the last one.
    pub fn release(&self, why: u32, scheduler: &impl Schedule) {
        if self.remove(why) != 0 {
            self.wake(scheduler);
        }
    }

    /// Adds `count` to the holds. For holds that are counted ([`super::vcpu::pause::HELD`]).
    pub fn add(&self, count: u32, scheduler: &impl Schedule) {
        self.holds.fetch_add(count, Ordering::SeqCst);
        self.sleep(scheduler);
    }

    /// Subtracts a count that was added.
    pub fn subtract(&self, count: u32, scheduler: &impl Schedule) {
        self.holds.fetch_sub(count, Ordering::AcqRel);
        self.wake(scheduler);
    }

    /// Called by a CPU that is about to run the vCPU: waits for its state and takes it. Returns true if there are no holds;
    /// then the state belongs to this CPU until it releases it. Otherwise the state is released at once.
    pub fn enter(&self) -> bool {
        let visit = self.state.wait_visit();
        let open = self.holds() == 0;
        if open {
            visit.keep();
        }
        open
    }

    /// The state, for the CPU that has entered the vCPU.
    pub const fn state(&self) -> &OwnerCell<S> {
        &self.state
    }

    /// The state, if the vCPU is on no CPU. No CPU can enter it until the visit ends.
    pub fn visit(&self) -> Option<Visit<'_, S>> {
        self.state.visit()
    }

    /// Waits until the vCPU, on which the caller has set a hold, is on no CPU. `caller` is the vCPU that calls.
    ///
    /// The CPU that runs the vCPU leaves ring 0 soon, unless it waits in the same way. Callers that wait for each other in a
    /// circle all have holds, and one of them waits for a vCPU with a higher address than its own. That one gets nothing,
    /// and has to leave ring 0 and try again.
    pub fn visit_held(&self, caller: Option<&Self>) -> Option<Visit<'_, S>> {
        loop {
            if let Some(visit) = self.visit() {
                return Some(visit);
            }
            let gives_way = |caller: &Self| core::ptr::from_ref(caller) < core::ptr::from_ref(self);
            if caller.is_some_and(|caller| gives_way(caller) && caller.holds() != 0) {
                return None;
            }
            wait_step();
        }
    }
}

#[cfg(all(test, loom))]
mod models;
