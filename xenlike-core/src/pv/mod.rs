//! What only paravirtual vCPUs have. Their kernels run in ring 3, or in ring 1 with 32 bits, so the hypervisor executes
//! for them what these rings can't, and enters them in place of the CPU.
//!
//! - [`bounce`]: makes a vCPU enter its kernel for an exception, a system call or an event;
//! - [`emulate`]: the machine behind [`crate::emul`], for instructions that ring 3 may not execute;
//! - [`page_fault`]: the page faults that the hypervisor handles itself;
//! - [`failsafe`]: the callback for segment registers that can't be loaded;
//! - [`narrow`]: the frames of 32-bit guests, whose kernels run in ring 1;
//! - `context`: the PV part of a switch between vCPUs;
//! - [`vcpu_context`]: all registers and tables as one structure.
//!
//! Below all of these, and below `domain`, is [`state`]: what a PV vCPU holds, and the rules that keep it sound.
//! `entry` decides from a trap which of these handles it, `hypercall` calls them for a guest that asks.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

pub mod bounce;
#[cfg(target_os = "none")]
pub mod context;
pub mod emulate;
pub mod failsafe;
pub mod narrow;
pub mod page_fault;
pub mod state;
pub mod vcpu_context;
