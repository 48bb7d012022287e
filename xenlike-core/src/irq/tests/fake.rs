//! Interrupt hardware that records how it was programmed.

use core::ops::RangeInclusive;
use std::collections::BTreeMap;
use std::vec::Vec;

use crate::arch::ioapic::{Gate, Trigger};
use crate::irq::{Function, IrqError, Machine, Width};
use crate::kit::{CpuId, Mfn};

pub const LINES: u32 = 24;
/// A function with four MSI messages, 64-bit addresses and masks.
pub const WITH_MSI: Function = Function { bus: 0, devfn: 8 };
/// A function with one MSI message, a 32-bit address and no masks.
pub const PLAIN_MSI: Function = Function { bus: 0, devfn: 16 };
/// A function with MSI-X of three entries, in the memory of the 64-bit BAR in registers 2 and 3.
pub const WITH_MSIX: Function = Function { bus: 1, devfn: 0 };
/// The page of its table.
pub const TABLE: Mfn = Mfn(0x800_0fe0);
/// The page of its pending bits.
pub const PENDING: Mfn = Mfn(0x800_0fe2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub vector: u8,
    pub cpu: CpuId,
    pub trigger: Trigger,
    pub gate: Gate,
}

#[derive(Default)]
pub struct Fake {
    pub routes: BTreeMap<u32, Route>,
    pub spaces: BTreeMap<Function, Vec<u8>>,
    pub table: BTreeMap<usize, u32>,
    pub protected: Vec<RangeInclusive<Mfn>>,
}

impl Fake {
    pub fn is_protected(&self, page: Mfn) -> bool {
        self.protected.iter().any(|pages| pages.contains(&page))
    }

    pub fn new() -> Self {
        let mut fake = Self::default();
        let mut space = |function, words: &[(usize, u32)]| {
            let mut bytes = std::vec![0; 256];
            for &(at, word) in words {
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            fake.spaces.insert(function, bytes);
        };
        let has_capabilities = (0x04, 0x0010_0002);
        space(
            WITH_MSI,
            &[
                (0, 0x1234_8086),
                has_capabilities,
                (0x34, 0x50),
                (0x50, 0x0000_5801),
                (0x58, 0x0184_0005),
            ],
        );
        space(
            PLAIN_MSI,
            &[
                (0, 0x1234_8086),
                has_capabilities,
                (0x34, 0x40),
                (0x40, 0x0000_0005),
            ],
        );
        space(
            WITH_MSIX,
            &[
                (0, 0x1041_1af4),
                has_capabilities,
                (0x18, 0x00fe_0004),
                (0x1c, 0x80),
                (0x34, 0x98),
                (0x98, 0x0002_0011),
                (0x9c, 0x0000_0802),
                (0xa0, 0x0000_2ffa),
            ],
        );
        fake
    }

    pub fn word(&self, function: Function, at: usize) -> u32 {
        let bytes = &self.spaces[&function][at..at + 4];
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    }
}

impl Machine for Fake {
    fn protect(&mut self, pages: RangeInclusive<Mfn>) -> Result<(), IrqError> {
        self.protected.push(pages);
        Ok(())
    }
    fn release(&mut self, pages: &RangeInclusive<Mfn>) {
        let place = self.protected.iter().position(|range| range == pages);
        self.protected.remove(place.expect("protected"));
    }
    fn lines(&self) -> u32 {
        LINES
    }
    fn route(&mut self, gsi: u32, vector: u8, cpu: CpuId, trigger: Trigger, gate: Gate) {
        let route = Route {
            vector,
            cpu,
            trigger,
            gate,
        };
        self.routes.insert(gsi, route);
    }
    fn set_gate(&mut self, gsi: u32, gate: Gate) {
        self.routes.get_mut(&gsi).expect("routed").gate = gate;
    }
    fn read(&mut self, function: Function, at: u8, width: Width) -> u32 {
        let Some(space) = self.spaces.get(&function) else {
            return u32::MAX >> (32 - 8 * bytes(width));
        };
        let mut word = [0; 4];
        let at = usize::from(at);
        word[..bytes(width)].copy_from_slice(&space[at..at + bytes(width)]);
        u32::from_le_bytes(word)
    }
    fn write(&mut self, function: Function, at: u8, width: Width, value: u32) {
        let at = usize::from(at);
        if let Some(space) = self.spaces.get_mut(&function) {
            space[at..at + bytes(width)].copy_from_slice(&value.to_le_bytes()[..bytes(width)]);
        }
    }
    fn write_table(&mut self, page: Mfn, at: usize, value: u32) -> bool {
        if page == TABLE {
            self.table.insert(at, value);
        }
        page == TABLE
    }
    fn apic_id(&self, cpu: CpuId) -> u32 {
        cpu.0 * 2
    }
}

fn bytes(width: Width) -> usize {
    match width {
        Width::Byte => 1,
        Width::Word => 2,
        Width::Dword => 4,
    }
}
