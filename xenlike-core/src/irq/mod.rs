//! Physical interrupts: from a device's line or message to the domains that handle it.
//!
//! A [`Book`] knows which domain calls what by which number (its *pirq*), and which vector each
//! interrupt that somebody has mapped arrives by. Key types: [`line::Line`] (one interrupt),
//! [`map::Map`] (a domain's number for it), [`Machine`] (I/O APICs, PCI configuration and MSI-X
//! tables, a fake on the host). Neighbours: `domain::pirq` hands arrivals on as events;
//! `hypercall::physdev` decodes; `entry` brings vectors.
//!
//! Invariants:
//! - A vector is the core's choice, and the same on all CPUs; no guest learns or sets one.
//! - An interrupt without holder is masked. A level-triggered one is masked from its arrival until
//!   every holder that was told has said that it is done: it can't storm a CPU.
//! - A holder has a map to its line; a line goes with its last map.
//! - Messages of a device are written by the core alone, with its own vectors. Pages of an MSI-X table
//!   in use are not mapped writable ([`tables`]).
#![warn(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

pub mod devices;
pub mod hold;
pub mod line;
pub mod machine;
pub mod map;
pub mod message;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod vectors;

use alloc::vec::Vec;

use crate::arch::ioapic::{Gate, Trigger};
use crate::kit::{CpuId, Mfn};
use line::Line;
use map::Map;
use tables::Table;
use vectors::Vectors;

/// Interrupt numbers of a domain end here.
pub const PIRQS: u32 = 1024;

/// A PCI function of the first segment: the one that the configuration ports reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// Its bus.
    pub bus: u8,
    /// Its device and function number.
    pub devfn: u8,
}

/// How much of the configuration space an access takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Dword,
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqError {
    /// A number is out of range, or nothing is mapped there.
    BadNumber,
    /// The number stands for another interrupt.
    Taken,
    /// It was so already.
    Exists,
    /// Others have it and at least one of them won't share.
    Busy,
    /// There is no such device, or it has no such capability.
    NoDevice,
    /// The device's memory is switched off, so its table can't be reached.
    NoMemoryAccess,
    /// No vector or number is left.
    NoSpace,
    /// The hypervisor has no memory.
    NoMemory,
}

/// The interrupt hardware of the machine.
pub trait Machine {
    /// Lines there are: one past the highest.
    fn lines(&self) -> u32;
    /// Sends line `gsi` as `vector` to `cpu`.
    fn route(&mut self, gsi: u32, vector: u8, cpu: CpuId, trigger: Trigger, gate: Gate);
    /// Lets a line through, or stops it.
    fn set_gate(&mut self, gsi: u32, gate: Gate);
    /// Reads a register of a function's configuration space.
    fn read(&mut self, function: Function, at: u8, width: Width) -> u32;
    /// Writes one.
    fn write(&mut self, function: Function, at: u8, width: Width, value: u32);
    /// Writes a word of an MSI-X table; false where there can't be one.
    fn write_table(&mut self, page: Mfn, at: usize, value: u32) -> bool;
    /// The name of a CPU in messages.
    fn apic_id(&self, cpu: CpuId) -> u32;
}

/// All of the machine's interrupts that domains have to do with.
pub struct Book<M> {
    pub(crate) machine: M,
    vectors: Vectors,
    /// Sorted by vector.
    lines: Vec<Line>,
    /// Sorted by domain and number.
    maps: Vec<Map>,
    /// How lines are wired, where the machine's tables or domain 0 told.
    wires: Vec<(u32, Trigger)>,
    /// The PCI functions that domain 0 has told of, sorted.
    functions: Vec<Function>,
    /// MSI-X tables in use.
    tables: Vec<Table>,
}

impl<M: Machine> Book<M> {
    /// Nothing is mapped; `wires` are those lines that are not wired as their bus has it.
    pub fn new(machine: M, wires: &[(u32, Trigger)]) -> Self {
        Self {
            machine,
            vectors: Vectors::new(),
            lines: Vec::new(),
            maps: Vec::new(),
            wires: wires.to_vec(),
            functions: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// How line `gsi` is wired: as told; else the ISA's asks on rising edges, PCI's while low.
    fn wiring(&self, gsi: u32) -> Trigger {
        let told = self.wires.iter().find(|(line, _)| *line == gsi);
        let usual = if gsi < ISA_LINES {
            Trigger::EdgeHigh
        } else {
            Trigger::LevelLow
        };
        told.map_or(usual, |(_, trigger)| *trigger)
    }
}

/// The ISA's interrupts.
const ISA_LINES: u32 = 16;
