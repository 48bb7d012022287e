//! Models of the gate: wakes, holds, switches and visits in every interleaving.

use super::{Gate, Schedule};
use crate::kit::atomic::model::explore;
use crate::kit::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use crate::kit::lock::wait_step;
use loom::thread;
use std::sync::Arc;

const DOWN: u32 = 1;
const BLOCKED: u32 = 2;
const HELD_ONCE: u32 = 1 << 8;

/// A vCPU, with what the scheduler and its CPU know of it.
struct Vcpu {
    gate: Gate<()>,
    /// The scheduler believes that the vCPU is ready.
    wanted: AtomicBool,
    /// The vCPU is between `enter` and the release of its state.
    runs: AtomicBool,
}

impl Vcpu {
    fn new(holds: u32, wanted: bool) -> Self {
        let vcpu = Self {
            gate: Gate::new(holds, ()),
            wanted: AtomicBool::new(wanted),
            runs: AtomicBool::new(false),
        };
        // Touches each atomic once before the first thread starts.
        drop(vcpu.gate.visit());
        (
            vcpu.gate.holds(),
            vcpu.wanted.load(SeqCst),
            vcpu.runs.load(SeqCst),
        );
        vcpu
    }

    /// Does what a CPU does when it is asked to schedule, as in `entry::switch`.
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

    /// Holds the vCPU, and checks that it is off its CPU and stays off until it is released.
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

/// One CPU schedules a vCPU, an event wakes it, and a call stops it. The vCPU never runs while it is
/// stopped, and the scheduler knows in the end that it is ready.
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

/// One CPU takes a vCPU down while another brings it up. The scheduler ends up with the same result
/// as the holds.
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
        // The next scheduling corrects what a late wake left.
        vcpu.schedule();
        let open = vcpu.gate.holds() == 0;
        assert_eq!(vcpu.wanted.load(SeqCst), open);
    });
}

/// Two running vCPUs stop each other. One gives way, and in the end both calls succeed.
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
                    // Stays off its CPU while another vCPU holds it.
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
