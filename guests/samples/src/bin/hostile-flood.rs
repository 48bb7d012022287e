//! Attack: floods of events and timers, and of channels opened and closed, within this domain and to ports of others.
//! To an observer this should look like any busy domain.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};

use samples::Attack;
use xenlike_rt::abi::xen::{DOMID_SELF, VIRQ_TIMER};
use xenlike_rt::{args, events, hyper, println, start_info, time};

xenlike_rt::entry!(main);

static TAKEN: AtomicU64 = AtomicU64::new(0);

fn taken(_port: events::Port) {
    TAKEN.fetch_add(1, Ordering::Relaxed);
}

fn main() {
    let mut attack = Attack::new("hostile-flood", "flood events");
    let count = args::number("count", 100_000);
    let own = events::own_domain().expect("the own id");
    let there = events::alloc_unbound(DOMID_SELF).expect("a port");
    let here = events::bind_interdomain(own, there).expect("its other end");
    events::on(there, taken);
    events::open();

    let start = time::now_ns();
    for _ in 0..count {
        let _ = events::send(here);
    }
    println!("  {count} sends in {} us", (time::now_ns() - start) / 1000);
    attack.holds("each arrived", TAKEN.load(Ordering::Relaxed) == count);

    for port in [0, 4095, 4096, 131_071, 131_072, 1 << 20, u32::MAX] {
        attack.refused("a port that isn't there", events::send(port));
        attack.refused("closing it", events::close(port));
    }
    let start = time::now_ns();
    for _ in 0..count / 10 {
        match events::alloc_unbound(DOMID_SELF) {
            Ok(port) => {
                let _ = events::bind_interdomain(own, port).and_then(events::close);
                let _ = events::close(port);
            }
            Err(error) => attack.refused("a port", Ok::<_, u32>(error)),
        }
    }
    println!(
        "  {} channels in {} us",
        count / 10,
        (time::now_ns() - start) / 1000
    );

    let timer = events::bind_virq(VIRQ_TIMER, 0).expect("a timer");
    events::on(timer, taken);
    let start = time::now_ns();
    for n in 0..count / 10 {
        let _ = hyper::set_timer(if n % 2 == 0 { 1 } else { time::now_ns() });
    }
    println!(
        "  {} timers in {} us",
        count / 10,
        (time::now_ns() - start) / 1000
    );

    // The other end of the console receives these.
    for _ in 0..count / 10 {
        let _ = events::send(start_info().console_evtchn);
    }
    for _ in 0..count / 10 {
        hyper::yield_now();
    }
    attack.finish();
}
