//! In and out of ring 0: stubs, who handles which trap, and the one way out: work, schedule, switch,
//! events, return to the guest.
//!
//! Holes that no emulator shows, and what guards each: docs/entry.md.

pub mod current;

mod context;
mod dump;
mod exit;
pub mod harden;
mod idle;
mod idt;
mod interrupts;
mod ring0;
mod stubs;
mod switch;
mod syscall;
mod timers;
mod tracing;
mod traps;

pub use idt::init_cpu;
pub use switch::run;
pub use timers::upkeep;
