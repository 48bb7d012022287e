//! Claim: timers fire, and never early: ten one-shot timers of 20 ms, by set_timer_op and vcpu_op in turn, and a
//! clock that never goes backwards. The vCPU sleeps in between.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};

use xenlike_rt::abi::vcpu::{
    VCPUOP_SET_SINGLESHOT_TIMER, VCPUOP_STOP_PERIODIC_TIMER, VcpuSetSingleshotTimer,
};
use xenlike_rt::abi::xen::VIRQ_TIMER;
use xenlike_rt::{events, hyper, println, time};

xenlike_rt::entry!(main);

const PERIOD_NS: u64 = 20_000_000;
const TICKS: u64 = 10;

static COUNT: AtomicU64 = AtomicU64::new(0);

fn tick(_port: events::Port) {
    COUNT.fetch_add(1, Ordering::Relaxed);
}

/// Sleeps until `ticks` ticks have occurred.
fn sleep_for(ticks: u64) {
    loop {
        events::close_upcalls();
        if COUNT.load(Ordering::Relaxed) >= ticks {
            events::open();
            return;
        }
        // Unmasks upcalls and sleeps in one step, so that no tick is lost in between.
        hyper::block();
    }
}

fn main() {
    let (seconds, _) = time::wall_clock();
    println!("wall clock: {seconds} s since 1970");
    // On Xen, a vCPU starts with a periodic timer.
    hyper::vcpu_op(VCPUOP_STOP_PERIODIC_TIMER, 0, &mut 0u64).expect("no periodic timer");
    let port = events::bind_virq(VIRQ_TIMER, 0).expect("a timer");
    events::on(port, tick);
    events::open();

    let mut latest = 0;
    for n in 1..=TICKS {
        let deadline = time::now_ns() + PERIOD_NS;
        let mut timer = VcpuSetSingleshotTimer {
            timeout_abs_ns: deadline,
            ..VcpuSetSingleshotTimer::default()
        };
        if n % 2 == 0 {
            hyper::set_timer(deadline).expect("set_timer_op");
        } else {
            hyper::vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut timer).expect("a timer");
        }
        sleep_for(n);
        let late = time::now_ns().wrapping_sub(deadline);
        if late > u64::MAX / 2 {
            println!(
                "FAIL ticks: timer {n} came {} ns early",
                late.wrapping_neg()
            );
            return;
        }
        latest = latest.max(late);
    }
    println!("{TICKS} one-shot timers, at most {} us late", latest / 1000);

    let mut last = time::now_ns();
    for _ in 0..100_000 {
        let now = time::now_ns();
        if now < last {
            println!("FAIL ticks: the clock went back by {} ns", last - now);
            return;
        }
        last = now;
    }
    println!("PASS ticks");
}
