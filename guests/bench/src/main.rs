//! Measures the hypervisor under it: each operation's cost in TSC ticks, which are executed instructions under
//! QEMU's `-icount shift=0`, with the guest's own stub and handler in it. One line `bench NAME TICKS` each.
//!
//! The same binary runs under xenlike and under real Xen, as Dom0 or as a domain. On the command line: `only=NAME`
//! measures that operation alone, which is what a profile is made of.

#![no_std]
#![no_main]

extern crate alloc;

mod calls;
mod descriptors;
mod events;
mod exceptions;
mod frames;
mod grants;
mod instructions;
mod mappings;
mod meter;
mod ports;
mod tables;
mod timer;
mod user;

use xenlike_rt::{entry_tsc, println};

xenlike_rt::entry!(main);

fn main() {
    println!("bench entry_tsc {}", entry_tsc());
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
    meter::report();
    println!("PASS bench");
}
