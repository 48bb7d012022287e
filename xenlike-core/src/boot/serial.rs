//! The serial port that the command line names, also on a PCI card or in memory: finding it, and its mapping.
#![expect(unsafe_code, reason = "makes windows on the port's registers")]

use log::warn;

use super::memory::BOOT_LIMIT;
use crate::arch::mmio::Window;
use crate::arch::pci;
use crate::console;
use crate::console::pci_uart::{self, Place};
use crate::console::serial::{Base, Registers, Setting};
use crate::kit::{Maddr, Once, Vaddr};
use crate::mm::layout::DIRECT_MAP;

/// The size in bytes of a port's registers.
pub const BYTES: u64 = 8;
const COMMAND: u8 = 4;
/// Bits of the command register: respond to I/O ports, respond to memory addresses.
const DECODE_PORTS: u16 = 1;
const DECODE_MEMORY: u16 = 2;

/// The address and setting of the port, if its registers are in memory.
static IN_MEMORY: Once<(Maddr, Setting)> = Once::new();

/// The machine address of the port's registers, if they are in memory.
pub fn in_memory() -> Option<Maddr> {
    IN_MEMORY.get().map(|(at, _)| *at)
}

/// Uses the port, now or as soon as the real tables map it.
pub fn open(setting: Setting) {
    match find(setting.base) {
        Some(Place::Ports(first)) => add(Registers::Ports(first), setting),
        Some(Place::Memory(at)) => {
            IN_MEMORY.call_once(|| (Maddr(at), setting));
            if at < BOOT_LIMIT - BYTES {
                // SAFETY: the boot tables map everything below 4 GiB; the command line or a BAR says that this is a
                // device.
                let window = unsafe { Window::new(Vaddr(DIRECT_MAP + at), BYTES as usize) };
                add(Registers::Memory(window), setting);
            }
        }
        None => warn!("console: no PCI card with a serial port was found"),
    }
}

/// Uses the port in memory at `at`, where the real tables, loaded now, map it.
pub fn moved(at: Option<Vaddr>) {
    let Some((at, setting)) = at.zip(IN_MEMORY.get().map(|(_, setting)| *setting)) else {
        return console::release_serial();
    };
    // SAFETY: mapped for good just now.
    let window = unsafe { Window::new(at, BYTES as usize) };
    if !console::move_serial(window) {
        add(Registers::Memory(window), setting);
    }
}

fn add(registers: Registers, setting: Setting) {
    if !console::add_serial(registers, setting) {
        warn!("console: no serial port answers at {:x?}", setting.base);
    }
}

fn find(base: Base) -> Option<Place> {
    let wish = match base {
        Base::At(place) => return Some(place),
        Base::Pci(wish) => wish,
    };
    let address = |function: u16, at| pci::address((function >> 8) as u8, function as u8, at);
    let found = pci_uart::find(wish, |function, at| pci::read32(address(function, at), 0))?;
    let decode = match found.place {
        Place::Ports(_) => DECODE_PORTS,
        Place::Memory(_) => DECODE_MEMORY,
    };
    let command = address(found.function, COMMAND);
    pci::write16(command, 0, pci::read16(command, 0) | decode);
    Some(found.place)
}
