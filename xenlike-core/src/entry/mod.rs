//! The ways into ring 0 and the one way out. Stubs save the registers, a table dispatches each trap to its handler, and
//! before the CPU returns to a guest the exit does the pending work, schedules, switches and delivers events.
//!
//! What a trap means to a guest is not decided here, but by the room for the vCPU's kind (`pv`).
//!
//! docs/entry.md lists the known holes of such entries that no emulator shows, and the line that guards each.

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
