//! Measures the cost of the hypervisor's operations in TSC ticks, which are executed instructions under
//! QEMU's `-icount shift=0`. The guest's own stub and handler are included. Prints a line `bench NAME
//! TICKS` for each operation.
//!
//! The same binary runs under xenlike and under real Xen, as Dom0 or as a domain. As a Dom0 with itself as initrd, it
//! also measures operations that need a second domain, which it builds from that initrd. Words on the command line:
//! `only=NAME` measures that operation alone, for a profile; `role=NAME` makes this the second domain;
//! `scaling=domains` or `scaling=vcpus` measures a few operations with many domains or vCPUs.

#![no_std]
#![no_main]

extern crate alloc;

mod calls;
mod children;
mod descriptors;
mod events;
mod exceptions;
mod frames;
mod grants;
mod instructions;
mod life;
mod mappings;
mod meter;
mod pair;
mod peer;
mod ports;
mod scaling;
mod tables;
mod timer;
mod user;

use children::Nursery;
use xenlike_rt::{args, entry_tsc, modules, println};

xenlike_rt::entry!(main);

/// Pages of a child's memory: 4 MiB, or 2 MiB where there are many children.
const PAGES: u64 = 1024;
const MANY_PAGES: u64 = 512;

fn main() {
    println!("bench entry_tsc {}", entry_tsc());
    if let Some(role) = args::value("role") {
        peer::play(role);
    }
    meter::settle();
    match (args::value("scaling"), modules::initrd()) {
        (Some("domains"), Some(image)) => scaling::domains(&mut Nursery::new(image, MANY_PAGES)),
        (Some("vcpus"), None) => scaling::vcpus(),
        (_, Some(image)) => with_children(image),
        (_, None) => alone(),
    }
    meter::report();
    println!("PASS bench");
}

/// Operations that one domain can measure alone.
fn alone() {
    calls::measure();
    events::measure();
    mappings::measure();
    tables::measure();
    descriptors::measure();
    exceptions::measure();
    instructions::measure();
    ports::measure();
    user::measure();
    timer::measure();
    grants::measure();
    frames::measure();
}

/// Operations that need a second domain, made from `image`.
fn with_children(image: &[u8]) {
    let mut nursery = Nursery::new(image, PAGES);
    pair::measure(&mut nursery);
    life::measure(&mut nursery);
}
