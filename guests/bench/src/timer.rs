//! The time from a timer's expiry to the guest's handler.

use core::sync::atomic::{AtomicU64, Ordering};

use xenlike_rt::abi::xen::VIRQ_TIMER;
use xenlike_rt::events::{self, Port};
use xenlike_rt::{hyper, time};

use crate::meter::{self, tsc};

/// How far ahead the timer is set. This leaves enough time to be waiting when it expires.
const AHEAD_NS: u64 = 50_000;

/// When the handler was entered; 0 before that.
static ENTERED: AtomicU64 = AtomicU64::new(0);

fn note(_: Port) {
    ENTERED.store(tsc(), Ordering::Relaxed);
}

/// Measures the row of this module.
pub fn measure() {
    let port = events::bind_virq(VIRQ_TIMER, 0).expect("the timer's port");
    events::on(port, note);
    events::open();
    meter::best_of("timer_interrupt", 50, || {
        ENTERED.store(0, Ordering::Relaxed);
        hyper::set_timer(time::now_ns() + AHEAD_NS).expect("a timer");
        // The measurement starts at the last read of the clock before the interrupt.
        let mut last = tsc();
        loop {
            let now = tsc();
            match ENTERED.load(Ordering::Relaxed) {
                0 => last = now,
                entered => return entered.wrapping_sub(last),
            }
        }
    });
    events::close_upcalls();
    events::close(port).expect("closed");
}
