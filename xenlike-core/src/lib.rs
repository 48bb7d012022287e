//! xenlike's ring-0 core: a Xen-compatible paravirtual hypervisor.
//!
//! The rooms, in order of who may use whom (a room uses only rooms further right; rooms inside
//! braces don't use each other):
//!
//! `boot → entry → hypercall → {pv, keys} → {emul, life, audit} → console → domain → pv::state →
//! {event, grant, pagetype, cpuid, timer, ports, irq} → trace → sched → mm → arch → kit`
//!
//! Rooms that see values of a guest's carry lints against what could panic on one: indexing, unwrapping,
//! and, but for `pagetype`, `emul`, `cpuid` and `trace`, arithmetic that may overflow.
//!
//! Everything but `boot`, `entry` and the hardware parts of `arch` and `mm` builds on the host too,
//! where the tests run.
#![no_std]
// On the host, what only bare metal needs has no user.
#![cfg_attr(not(target_os = "none"), allow(dead_code, unused_imports))]
#![cfg_attr(target_os = "none", deny(dead_code, unused_imports))]

extern crate alloc;
#[cfg(any(test, loom))]
extern crate std;

/// Declares the rooms. Nothing outside uses them, so they are private, and the compiler refuses what no code uses.
/// To clippy they are public, so that it asks for the documentation of whatever one room offers to another.
macro_rules! rooms {
    ($($(#[$attribute:meta])* $room:ident;)*) => {
        $(
            $(#[$attribute])*
            #[cfg(not(clippy))]
            mod $room;
            $(#[$attribute])*
            #[cfg(clippy)]
            pub mod $room;
        )*
    };
}

rooms! {
    arch;
    #[cfg(feature = "audit")]
    audit;
    boot;
    console;
    cpuid;
    domain;
    emul;
    #[cfg(target_os = "none")]
    entry;
    event;
    grant;
    hypercall;
    irq;
    keys;
    kit;
    life;
    mm;
    pagetype;
    ports;
    pv;
    sched;
    timer;
    trace;
}

#[cfg(target_os = "none")]
pub(crate) use arch::extable::extable;
#[cfg(target_os = "none")]
pub(crate) use arch::smap::{close_guest_memory, open_guest_memory};
