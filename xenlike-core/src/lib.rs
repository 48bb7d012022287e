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

extern crate alloc;
#[cfg(any(test, loom))]
extern crate std;

pub mod arch;
#[cfg(feature = "audit")]
pub mod audit;
pub mod boot;
pub mod console;
pub mod cpuid;
pub mod domain;
pub mod emul;
#[cfg(target_os = "none")]
pub mod entry;
pub mod event;
pub mod grant;
pub mod hypercall;
pub mod irq;
pub mod keys;
pub mod kit;
pub mod life;
pub mod mm;
pub mod pagetype;
pub mod ports;
pub mod pv;
pub mod sched;
pub mod timer;
pub mod trace;
