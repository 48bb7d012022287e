//! Measures the cost of the hypervisor's operations in TSC ticks, which are executed instructions under
//! QEMU's `-icount shift=0`. The guest's own stub and handler are included. Prints a line `bench NAME
//! TICKS` for each operation.
//!
//! The same binary runs under xenlike and under real Xen, as Dom0 or as a domain. As a Dom0 with itself as initrd, it
//! also measures operations that need a second domain, which it builds from that initrd. Its 32-bit form runs as a Dom0
//! without other domains, or is the second domain of the 64-bit form. Words on the command line:
//! `only=NAME` measures that operation alone, for a profile; `role=NAME` makes this the second domain;
//! `scaling=domains` or `scaling=vcpus` measures a few operations with many domains or vCPUs.

#![no_std]
#![no_main]

extern crate alloc;

mod calls;
mod descriptors;
#[cfg(target_pointer_width = "64")]
mod domains;
mod events;
mod exceptions;
mod frames;
mod grants;
mod instructions;
mod mappings;
mod meter;
#[cfg(target_pointer_width = "32")]
mod narrow;
#[cfg(target_pointer_width = "32")]
use narrow as width;
mod peer;
mod ports;
mod tables;
mod timer;
mod user;
#[cfg(target_pointer_width = "64")]
mod wide;
#[cfg(target_pointer_width = "64")]
use wide as width;

use xenlike_rt::{args, entry_tsc, println};

xenlike_rt::entry!(main);

fn main() {
    println!("bench entry_tsc {}", entry_tsc());
    if let Some(role) = args::value("role") {
        peer::play(role);
    }
    meter::settle();
    #[cfg(target_pointer_width = "64")]
    domains::measure();
    #[cfg(target_pointer_width = "32")]
    alone();
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
