//! The interrupt hardware of the machine, and its only [`Book`].

use core::ops::RangeInclusive;

use alloc::vec::Vec;

use super::{Book, Function, IrqError, Machine, Width};
use crate::arch::ioapic::{self, Gate, Trigger};
use crate::arch::mmio::Window;
use crate::arch::{lapic, pci};
use crate::kit::lock::LockGuard;
use crate::kit::{CpuId, Lock, Mfn, Once, Rank};
use crate::mm::device_frames;
use crate::mm::frame::frames;

/// The number of pages of MSI-X tables that may be mapped. Mappings are never removed, because tables rarely move.
const MAX_TABLE_PAGES: usize = 256;

/// Maps a page of a device for good; `None` if there is no address space or memory left.
pub type MapPage = fn(Mfn) -> Option<Window>;

/// The machine's I/O APICs, PCI configuration space and MSI-X tables.
pub struct Hardware {
    map_page: MapPage,
    tables: Vec<(Mfn, Window)>,
    /// The pages of the core's own device registers, which can't be a device's table.
    own: Vec<Mfn>,
}

static BOOK: Once<Lock<Book<Hardware>>> = Once::new();

/// Makes the book. Called once, at boot, with the lines whose wiring differs from their bus' default, and the pages of
/// the core's own registers.
pub fn open(wires: &[(u32, Trigger)], own: Vec<Mfn>, map_page: MapPage) {
    let hardware = Hardware {
        map_page,
        tables: Vec::new(),
        own,
    };
    BOOK.call_once(|| Lock::new(Rank::Interrupts, Book::new(hardware, wires)));
}

/// Locks the machine's book. `None` before it is made, and on the host.
pub fn book() -> Option<LockGuard<'static, Book<Hardware>>> {
    Some(BOOK.get()?.lock())
}

impl Hardware {
    fn table(&mut self, page: Mfn) -> Option<Window> {
        if let Some((_, window)) = self.tables.iter().find(|(mapped, _)| *mapped == page) {
            return Some(*window);
        }
        // Domain 0 controls where devices have their registers, so the page must be neither RAM nor the core's own.
        let is_ram = frames().get(page).is_some();
        if is_ram || self.own.contains(&page) || self.tables.len() >= MAX_TABLE_PAGES {
            return None;
        }
        self.tables.try_reserve(1).ok()?;
        let window = (self.map_page)(page)?;
        self.tables.push((page, window));
        Some(window)
    }
}

impl Machine for Hardware {
    fn protect(&mut self, pages: RangeInclusive<Mfn>) -> Result<(), IrqError> {
        device_frames::protect(pages).map_err(|device_frames::NoMemory| IrqError::NoMemory)
    }
    fn release(&mut self, pages: &RangeInclusive<Mfn>) {
        device_frames::release(pages);
    }
    fn lines(&self) -> u32 {
        ioapic::lines()
    }
    fn route(&mut self, gsi: u32, vector: u8, cpu: CpuId, trigger: Trigger, gate: Gate) {
        // The line exists. If it is the firmware's, nothing happens: it stays as it is.
        let _ = ioapic::route(gsi, vector, cpu, trigger, gate);
    }
    fn set_gate(&mut self, gsi: u32, gate: Gate) {
        let _ = ioapic::set_gate(gsi, gate);
    }
    fn read(&mut self, function: Function, at: u8, width: Width) -> u32 {
        let address = pci::address(function.bus, function.devfn, at);
        match width {
            Width::Byte => u32::from(pci::read8(address, at)),
            Width::Word => u32::from(pci::read16(address, at)),
            Width::Dword => pci::read32(address, at),
        }
    }
    fn write(&mut self, function: Function, at: u8, width: Width, value: u32) {
        let address = pci::address(function.bus, function.devfn, at);
        match width {
            Width::Byte => pci::write8(address, at, value as u8),
            Width::Word => pci::write16(address, at, value as u16),
            Width::Dword => pci::write32(address, at, value),
        }
    }
    fn write_table(&mut self, page: Mfn, at: usize, value: u32) -> bool {
        let window = self.table(page);
        if let Some(window) = window {
            window.write32(at, value);
        }
        window.is_some()
    }
    fn apic_id(&self, cpu: CpuId) -> u32 {
        lapic::device_target(cpu).map_or(0, u32::from)
    }
}
