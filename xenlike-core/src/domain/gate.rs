//! Whether a vCPU may run, and who has its state: the protocol of waking, holding and switching.
//!
//! A vCPU may run while it has no *holds* ([`super::vcpu::pause`]). Any CPU sets and removes holds, and tells
//! the scheduler after each change; so what the scheduler believes is sometimes out of date:
//!
//! * A wake that was on its way when a hold was set leaves the vCPU queued. Therefore a CPU that
//!   switches to a vCPU looks at the holds *after* it has acquired the state ([`Gate::enter`]).
//! * Putting a vCPU to sleep may come after the wake of whoever removed the last hold. Therefore the
//!   holds are looked at again after each sleep ([`Gate::settle`]).
//!
//! The rule that follows: after a hold was set, a successful [`Gate::visit`] proves that the vCPU is on
//! no CPU, and it stays off until that hold goes. A CPU that acquires the state later does so after the
//! visit's release, and sees the hold.

use crate::kit::atomic::{AtomicU32, Ordering};
use crate::kit::cell::{OwnerCell, Visit};
use crate::kit::lock::wait_step;

/// What the scheduler is told about one vCPU.
pub trait Schedule {
    /// It wants to run.
    fn wake(&self);
    /// It doesn't; a CPU that runs it is made to ask the scheduler.
    fn sleep(&self);
}

/// A vCPU's holds, and its state, which belongs to the CPU that runs it.
pub struct Gate<S> {
    holds: AtomicU32,
    state: OwnerCell<S>,
}

impl<S> Gate<S> {
    /// With these holds, on no CPU.
    pub const fn new(holds: u32, state: S) -> Self {
        Self {
            holds: AtomicU32::new(holds),
            state: OwnerCell::new(state),
        }
    }

    /// The reasons for which it doesn't run.
    #[inline]
    pub fn holds(&self) -> u32 {
        // Ordered after the setting of an event's bit, see `notify::upcall`.
        self.holds.load(Ordering::SeqCst)
    }

    /// Sets `why` without telling the scheduler: the vCPU that runs here is about to.
    #[inline]
    pub fn set(&self, why: u32) {
        self.holds.fetch_or(why, Ordering::SeqCst);
    }

    /// Removes `why` without telling the scheduler; returns which of it there was.
    #[inline]
    pub fn remove(&self, why: u32) -> u32 {
        self.holds.fetch_and(!why, Ordering::AcqRel) & why
    }

    /// Wakes the vCPU if it has no holds.
    pub fn wake(&self, scheduler: &impl Schedule) {
        if self.holds() == 0 {
            scheduler.wake();
        }
    }

    /// Puts a vCPU that has holds to sleep.
    pub fn settle(&self, scheduler: &impl Schedule) {
        if self.holds() != 0 {
            self.sleep(scheduler);
        }
    }

    fn sleep(&self, scheduler: &impl Schedule) {
        scheduler.sleep();
        self.wake(scheduler);
    }

    /// Holds the vCPU for `why`. It may still be on its CPU when this returns.
    pub fn hold(&self, why: u32, scheduler: &impl Schedule) {
        self.set(why);
        self.sleep(scheduler);
    }

    /// Removes the hold `why`.
    pub fn release(&self, why: u32, scheduler: &impl Schedule) {
        if self.remove(why) != 0 {
            self.wake(scheduler);
        }
    }

    /// Adds `count` to the holds: for a hold that is counted.
    pub fn add(&self, count: u32, scheduler: &impl Schedule) {
        self.holds.fetch_add(count, Ordering::SeqCst);
        self.sleep(scheduler);
    }

    /// Takes what was added off again.
    pub fn subtract(&self, count: u32, scheduler: &impl Schedule) {
        self.holds.fetch_sub(count, Ordering::AcqRel);
        self.wake(scheduler);
    }

    /// This CPU switches to the vCPU: true if it may run. Then its state is this CPU's until that releases
    /// it.
    pub fn enter(&self) -> bool {
        let visit = self.state.wait_visit();
        let open = self.holds() == 0;
        if open {
            visit.keep();
        }
        open
    }

    /// Its state, for the CPU that entered it.
    pub const fn state(&self) -> &OwnerCell<S> {
        &self.state
    }

    /// Its state, if it is on no CPU. While the visit lasts, no CPU can enter it.
    pub fn visit(&self) -> Option<Visit<'_, S>> {
        self.state.visit()
    }

    /// Waits until the vCPU, which the caller holds, is on no CPU. `caller` is the vCPU that asks.
    ///
    /// The CPU that runs it comes out of ring 0 soon, unless it waits likewise. Callers that wait for
    /// each other in a circle are all held; one of them waits for a vCPU with a higher address than
    /// its own, and gives up: nothing is returned, and the caller has to leave ring 0 and try again.
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
