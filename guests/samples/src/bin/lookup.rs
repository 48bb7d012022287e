//! Makes the hypervisor look up other domains as fast as possible, on all vCPUs, until this domain is destroyed. Each
//! attempt to bind to a port that doesn't exist names a domain, the first `victims=N` in turn.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};

use xenlike_rt::{args, events, println, smp, time};

xenlike_rt::entry!(main);

/// A port that no small guest has.
const NO_PORT: u32 = 4000;

static LOOKUPS: AtomicU64 = AtomicU64::new(0);

fn look_up(_vcpu: u32) {
    events::close_upcalls();
    let victims = args::number("victims", 16) as u16;
    let mut victim = 0;
    loop {
        let _ = events::bind_interdomain(victim, NO_PORT);
        victim = (victim + 1) % victims;
        LOOKUPS.fetch_add(1, Ordering::Relaxed);
    }
}

fn main() {
    let vcpus = smp::vcpus();
    for vcpu in 1..vcpus {
        smp::start(vcpu, look_up).expect("a vCPU");
    }
    let began = time::now_ns();
    while time::now_ns() < began + time::SECOND_NS {}
    println!(
        "{vcpus} vCPUs look domains up, {} times a second",
        LOOKUPS.load(Ordering::Relaxed)
    );
    look_up(0);
}
