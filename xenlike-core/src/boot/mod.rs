//! From GRUB to the first domain. `order` contains the order as a list; the other files contain what it calls.
//!
//! Neighbours: `arch` for the machine, `mm` for the allocator that gets the RAM, `console`, `life` for the first
//! domain, and at the end `entry`, which doesn't return.

pub mod acpi;
#[cfg(target_os = "none")]
mod cpu;
pub mod early_memory;
#[cfg(target_os = "none")]
mod efi;
#[cfg(all(target_os = "none", feature = "audit"))]
mod ends;
pub mod first_domain;
pub mod info;
#[cfg(target_os = "none")]
mod interrupts;
#[cfg(target_os = "none")]
mod kept;
pub mod map;
#[cfg(target_os = "none")]
mod memory;
pub mod microcode;
#[cfg(target_os = "none")]
mod mitigate;
pub mod multiboot1;
pub mod options;
#[cfg(target_os = "none")]
mod order;
#[cfg(target_os = "none")]
pub mod panic;
#[cfg(target_os = "none")]
mod screen;
#[cfg(target_os = "none")]
mod serial;
#[cfg(target_os = "none")]
mod smp;
pub mod speculation;
#[cfg(target_os = "none")]
mod stack;
#[cfg(target_os = "none")]
mod start;
#[cfg(target_os = "none")]
mod symbols;
#[cfg(target_os = "none")]
mod tables;
#[cfg(target_os = "none")]
mod traps;
