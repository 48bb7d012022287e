//! Physical interrupts: from a device's line or message to the domains that handle it.
//!
//! A [`Book`] contains the number (*pirq*) by which each domain refers to an interrupt, and the vector of each
//! interrupt that some domain has mapped. Key types: [`line::Line`] (an interrupt), [`map::Map`] (a domain's number for
//! it), [`Machine`] (I/O APICs, PCI configuration space and MSI-X tables; a fake on the host). Neighbours: `entry`
//! passes vectors on; `domain::pirq` turns arrivals into events; `hypercall::physdev` decodes the calls.
//!
//! Invariants:
//! - The core chooses vectors, and a vector means the same interrupt on all CPUs (docs/adr/0008). No
//!   guest learns or sets one.
//! - An interrupt without holders is masked. A level-triggered one is also masked from its arrival until every holder
//!   to which it was sent has said that it is done, so it can't storm a CPU.
//! - A holder has a map to its line. A line is removed with its last map.
//! - Only the core writes the messages of a device, with its own vectors. Pages of an MSI-X table in use are not mapped
//!   writable by any domain ([`tables`]).
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

use core::ops::RangeInclusive;

use alloc::vec::Vec;

use crate::arch::ioapic::{Gate, Trigger};
use crate::kit::{CpuId, Mfn};
use line::Line;
use map::Map;
use tables::Table;
use vectors::Vectors;

/// The end of a domain's interrupt numbers.
pub const PIRQS: u32 = 1024;

/// A PCI function of the first segment, which is the one that the configuration ports reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// The number of its bus.
    pub bus: u8,
    /// The device and function number.
    pub devfn: u8,
}

/// The width of an access to configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One byte, at any offset.
    Byte,
    /// Two bytes, at an even offset.
    Word,
    /// Four bytes, at an offset that is a multiple of four.
    Dword,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqError {
    /// A number is out of range, or not mapped.
    BadNumber,
    /// The number is mapped to another interrupt.
    Taken,
    /// The requested state was there already.
    Exists,
    /// The interrupt has other holders, and at least one of them doesn't share it.
    Busy,
    /// There is no such device, or it lacks the capability.
    NoDevice,
    /// The device's memory decoding is off, so that its table can't be accessed.
    NoMemoryAccess,
    /// No vector or number is left.
    NoSpace,
    /// The hypervisor's memory is exhausted.
    NoMemory,
}

/// The interrupt hardware of the machine.
pub trait Machine {
    /// The number of lines: the highest GSI plus one.
    fn lines(&self) -> u32;
    /// Sends line `gsi` as `vector` to `cpu`.
    fn route(&mut self, gsi: u32, vector: u8, cpu: CpuId, trigger: Trigger, gate: Gate);
    /// Opens or masks a line, which stays routed.
    fn set_gate(&mut self, gsi: u32, gate: Gate);
    /// Reads a register of a function's configuration space.
    fn read(&mut self, function: Function, at: u8, width: Width) -> u32;
    /// Writes a register of a function's configuration space.
    fn write(&mut self, function: Function, at: u8, width: Width, value: u32);
    /// Writes a word of an MSI-X table; returns false if `page` can't contain one.
    fn write_table(&mut self, page: Mfn, at: usize, value: u32) -> bool;
    /// The APIC id of a CPU, as messages address it.
    fn apic_id(&self, cpu: CpuId) -> u32;
    /// Lets domains only read these pages, until [`Machine::release`].
    ///
    /// # Errors
    /// [`IrqError::NoMemory`].
    fn protect(&mut self, pages: RangeInclusive<Mfn>) -> Result<(), IrqError>;
    /// Undoes one [`Machine::protect`] of the same pages.
    fn release(&mut self, pages: &RangeInclusive<Mfn>);
}

/// All of the machine's interrupts that domains can use.
pub struct Book<M> {
    pub(crate) machine: M,
    vectors: Vectors,
    /// The interrupts in use, sorted by vector.
    lines: Vec<Line>,
    /// The domains' numbers, sorted by domain and number.
    maps: Vec<Map>,
    /// The wiring of lines for which the machine's tables or domain 0 stated one.
    wires: Vec<(u32, Trigger)>,
    /// The PCI functions that domain 0 has announced, sorted.
    functions: Vec<Function>,
    /// The MSI-X tables in use.
    tables: Vec<Table>,
}

impl<M: Machine> Book<M> {
    /// Makes a book without maps. `wires` are the lines whose wiring differs from their bus' default.
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

    /// The wiring of line `gsi`: as stated; else edge high for ISA lines, level low for PCI lines.
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

/// The number of ISA interrupts, which are the first lines.
const ISA_LINES: u32 = 16;
