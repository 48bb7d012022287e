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
mod models {
    use super::{Gate, Schedule};
    use crate::kit::atomic::model::explore;
    use crate::kit::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
    use crate::kit::lock::wait_step;
    use loom::thread;
    use std::sync::Arc;

    const DOWN: u32 = 1;
    const BLOCKED: u32 = 2;
    const HELD_ONCE: u32 = 1 << 8;

    /// A vCPU and what the scheduler and its CPU know of it.
    struct Vcpu {
        gate: Gate<()>,
        /// The scheduler believes that it wants to run.
        wanted: AtomicBool,
        /// It is between `enter` and the release of its state.
        runs: AtomicBool,
    }

    impl Vcpu {
        fn new(holds: u32, wanted: bool) -> Self {
            let vcpu = Self {
                gate: Gate::new(holds, ()),
                wanted: AtomicBool::new(wanted),
                runs: AtomicBool::new(false),
            };
            // Touches the atomics.
            drop(vcpu.gate.visit());
            (
                vcpu.gate.holds(),
                vcpu.wanted.load(SeqCst),
                vcpu.runs.load(SeqCst),
            );
            vcpu
        }

        /// What a CPU does that was asked to schedule, as in `entry::switch`.
        fn schedule(&self) {
            if !self.wanted.load(SeqCst) {
                return;
            }
            if !self.gate.enter() {
                return self.gate.settle(self);
            }
            self.runs.store(true, SeqCst);
            self.leave();
        }

        fn leave(&self) {
            self.runs.store(false, SeqCst);
            // SAFETY: entered; there are no references to the state.
            #[expect(unsafe_code, reason = "the model's own switch")]
            unsafe {
                self.gate.state().release();
            }
        }

        /// Holds the vCPU, and checks that it is off and stays off until it is released.
        fn stop(&self) {
            self.gate.add(HELD_ONCE, self);
            let visit = self.gate.visit_held(None);
            assert!(!self.runs.load(SeqCst), "runs though it is held");
            drop(visit);
            assert!(!self.runs.load(SeqCst), "came back though it is held");
            self.gate.subtract(HELD_ONCE, self);
        }
    }

    impl Schedule for Vcpu {
        fn wake(&self) {
            self.wanted.swap(true, SeqCst);
        }
        fn sleep(&self) {
            self.wanted.swap(false, SeqCst);
        }
    }

    /// A CPU that schedules a vCPU, an event that wakes it, and a call that stops it: while it is stopped
    /// it doesn't run, and in the end it isn't forgotten.
    #[test]
    fn a_held_vcpu_is_off_and_a_woken_one_is_wanted() {
        explore(4, || {
            let vcpu = Arc::new(Vcpu::new(BLOCKED, false));
            let (cpu, waker) = (vcpu.clone(), vcpu.clone());
            let threads = [
                thread::spawn(move || cpu.schedule()),
                thread::spawn(move || waker.gate.release(BLOCKED, &*waker)),
            ];
            vcpu.stop();
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(vcpu.gate.holds(), 0);
            assert!(vcpu.wanted.load(SeqCst), "runnable, but asleep for ever");
        });
    }

    /// One CPU takes a vCPU down while another brings it up: whoever was last wins, for the scheduler too.
    #[test]
    fn down_and_up_agree_with_the_scheduler() {
        explore(3, || {
            let vcpu = Arc::new(Vcpu::new(0, true));
            let (up, cpu) = (vcpu.clone(), vcpu.clone());
            let threads = [
                thread::spawn(move || up.gate.release(DOWN, &*up)),
                thread::spawn(move || cpu.schedule()),
            ];
            vcpu.gate.hold(DOWN, &*vcpu);
            for thread in threads {
                thread.join().unwrap();
            }
            // The next schedule settles what a late wake left.
            vcpu.schedule();
            let open = vcpu.gate.holds() == 0;
            assert_eq!(vcpu.wanted.load(SeqCst), open);
        });
    }

    /// Two vCPUs that run and stop each other: one gives way, and both calls are made in the end.
    #[test]
    fn two_that_stop_each_other_both_go_on() {
        explore(2, || {
            let pair = Arc::new([Vcpu::new(0, true), Vcpu::new(0, true)]);
            let made = Arc::new(AtomicU32::new(0));
            made.load(SeqCst);
            let cpu = |own: usize| {
                let (pair, made) = (pair.clone(), made.clone());
                move || {
                    let (own, other) = (&pair[own], &pair[1 - own]);
                    let mut called = false;
                    while !called {
                        // Off its CPU for as long as somebody holds it.
                        while !own.gate.enter() {
                            wait_step();
                        }
                        other.gate.add(HELD_ONCE, other);
                        let visit = other.gate.visit_held(Some(&own.gate));
                        called = visit.is_some();
                        made.fetch_add(u32::from(called), SeqCst);
                        drop(visit);
                        other.gate.subtract(HELD_ONCE, other);
                        own.leave();
                    }
                }
            };
            let other = thread::spawn(cpu(1));
            cpu(0)();
            other.join().unwrap();
            assert_eq!(made.load(SeqCst), 2);
        });
    }
}
