//! A CPU without a vCPU waits here. Ring 0 takes most of its interrupts here; long work elsewhere takes
//! them by [`halt::let_interrupts_in`].

use crate::arch::{halt, percpu, work};
use crate::console;
use crate::domain::time;
use crate::mm::alloc;

use super::{harden, timers, tracing};

/// Waits until this CPU has a reason to schedule again.
pub fn wait() {
    time::idle_begins();
    until_scheduled();
    time::idle_ends();
}

/// Does the work that comes up, and scrubs freed frames in between.
fn until_scheduled() {
    loop {
        console::later::tell();
        let due = work::take();
        if due & work::TIMER != 0 {
            timers::expire();
        }
        if due & work::CLOCK != 0 {
            timers::correct_clock();
        }
        if due & work::CONSOLE != 0 {
            console::poll();
        }
        if due & work::LIFE != 0 {
            crate::life::destroy::forget_empty();
            crate::life::endings::act();
        }
        if due & work::DUMP != 0 {
            log::info!("{:?} has nothing to run", percpu::this_cpu());
        }
        #[cfg(feature = "audit")]
        crate::audit::stand(due);
        tracing::act(due);
        if due & work::SCHEDULE != 0 {
            return;
        }
        if work::pending() {
            halt::let_interrupts_in();
            continue;
        }
        if console::draw_some() || alloc::scrub_some() {
            halt::let_interrupts_in();
        } else {
            harden::before_sleep();
            halt::wait_for_interrupt();
        }
    }
}
