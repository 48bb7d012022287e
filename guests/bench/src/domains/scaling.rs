//! The effect of the number of domains or vCPUs on the cost of an operation. Lines are `bench NAME@NUMBER TICKS`.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use xenlike_rt::abi::xen::{MMUEXT_INVLPG_ALL, MMUEXT_TLB_FLUSH_ALL};
use xenlike_rt::{args, events, hyper, println, smp};

use super::children::{Child, Nursery};
use super::pair;
use crate::meter::{self, tsc};
use crate::{frames, mappings};

/// Numbers of further domains, besides the one that takes part.
const DOMAINS: [usize; 4] = [1, 10, 100, 400];
const LOOPS: u64 = 20;

/// The largest number of domains to create.
fn limit() -> usize {
    args::number("most", 400) as usize
}

/// Measures with idle domains first, then with domains that want to run all the time.
pub fn domains(nursery: &mut Nursery) {
    let mut others = Vec::new();
    for count in DOMAINS.into_iter().filter(|count| *count <= limit()) {
        while others.len() < count {
            others.push(nursery.raise("idle"));
        }
        meter::settle();
        print("event", count, event(nursery));
        print("create", count, create(nursery));
        print("frame", count, frames::populate_one());
    }
    for child in others.drain(..) {
        nursery.destroy(child);
    }
    for count in DOMAINS.into_iter().filter(|count| *count <= limit()) {
        // None of the domains runs while others are created.
        while others.len() < count {
            let id = nursery.create();
            others.push(nursery.build(id, "busy"));
        }
        others.iter().for_each(|child| nursery.start(*child));
        print("schedule", count, schedule(&others));
        others.iter().for_each(|child| nursery.stop(*child));
    }
    for child in others.drain(..) {
        nursery.destroy(child);
    }
}

fn print(name: &str, count: usize, ticks: u64) {
    println!("bench {name}@{count} {ticks}");
}

/// Measures an event to another domain and back.
fn event(nursery: &mut Nursery) -> u64 {
    let mut best = u64::MAX;
    pair::with_child(nursery, "handler", |port| {
        events::on(port, pair::note);
        for _ in 0..LOOPS {
            let start = tsc();
            pair::there_and_back(port);
            best = best.min(tsc() - start);
        }
    });
    best
}

/// Measures creating a domain without memory, which is then destroyed.
fn create(nursery: &mut Nursery) -> u64 {
    let once = |_| {
        let start = tsc();
        let id = nursery.create();
        let took = tsc() - start;
        nursery.discard(id);
        took
    };
    (0..LOOPS).map(once).min().unwrap_or_default()
}

/// Measures the time of each yield by any domain, while all want to run. The busy domains count their own yields.
fn schedule(others: &[Child]) -> u64 {
    // Waits until all of them have begun.
    while others.iter().any(|child| child.turns() < 2) {
        hyper::yield_now();
    }
    let counted = || -> u64 { others.iter().map(|child| child.turns()).sum() };
    let (before, start) = (counted(), tsc());
    for _ in 0..LOOPS {
        hyper::yield_now();
    }
    let took = tsc() - start;
    took / (counted() - before + LOOPS)
}

static READY: AtomicU32 = AtomicU32::new(0);

/// The main function of further vCPUs. They run all the time, so that flushes concern their TLBs.
fn spin(_: u32) {
    READY.fetch_add(1, Ordering::Relaxed);
    loop {
        core::hint::spin_loop();
    }
}

/// Measures flushes of the TLBs of all vCPUs.
pub fn vcpus() {
    let count = smp::vcpus();
    for vcpu in 1..count {
        smp::start(vcpu, spin).expect("a vCPU");
    }
    while READY.load(Ordering::Relaxed) + 1 < count {
        core::hint::spin_loop();
    }
    println!("bench vcpus {count}");
    for (name, cmd) in [
        ("tlb_flush_all", MMUEXT_TLB_FLUSH_ALL),
        ("invlpg_all", MMUEXT_INVLPG_ALL),
    ] {
        meter::repeat(name, LOOPS, || mappings::flush(cmd));
    }
}
