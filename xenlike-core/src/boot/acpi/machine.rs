//! The real tables, and the devices that they name.
#![expect(unsafe_code, reason = "maps the firmware's tables")]

use alloc::boxed::Box;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use log::warn;

use super::fadt::{Address, MEMORY, PCI};
use super::madt::{IoApicInfo, Override, Processor};
use super::rsdp::Roots;
use super::table::Firmware;
use super::{Found, HPET_BYTES, LAPIC_DEFAULT};
use crate::arch::calibrate::Reference;
use crate::arch::ioapic::Trigger;
use crate::arch::mmio::Window;
use crate::arch::power::{self, Register, SleepRegisters, SoftOff};
use crate::arch::{cpu, paging};
use crate::boot::memory::map_device;
use crate::kit::{MAX_CPUS, Maddr};
use crate::life::hardware_domain::AcpiTable;
use crate::mm::frame::frames;

/// What the core uses of the machine, by its tables.
#[derive(Debug)]
pub struct Machine {
    /// The page of the local APICs.
    pub lapic: Maddr,
    /// The CPUs that may be started, in the firmware's order.
    pub cpus: ArrayVec<Processor, MAX_CPUS>,
    /// Whether there are more CPUs than the core can use.
    pub more_cpus: bool,
    /// The I/O APICs, in the firmware's order.
    pub ioapics: ArrayVec<IoApicInfo, 16>,
    /// The ISA interrupts that are not wired one to one.
    pub overrides: ArrayVec<Override, 16>,
    /// The clocks by which the TSC can be measured, the best one first. The tables don't say whether there is a PIT.
    pub clocks: ArrayVec<Reference, 3>,
    /// The page of the HPET's registers.
    pub hpet: Option<Maddr>,
    /// A summary of the tables, for reports.
    pub tables: Vec<AcpiTable>,
}

/// Maps tables for good; there are few.
struct Mapped;

impl Firmware for Mapped {
    fn reaches(&self, at: u64, bytes: u64) -> bool {
        let end = 1_u64.checked_shl(u32::from(cpu::features().phys_bits));
        let last = at.checked_add(bytes);
        at != 0 && last.is_some_and(|last| last <= end.unwrap_or(u64::MAX))
    }

    fn is_ram(&self, at: u64) -> bool {
        frames().get(Maddr(at).mfn()).is_some()
    }

    fn bytes(&self, at: u64, bytes: usize) -> Option<&[u8]> {
        if !self.reaches(at, bytes as u64) {
            return None;
        }
        let mapped = map_device(Maddr(at), bytes as u64, paging::RODATA)?;
        // SAFETY: mapped for good and read-only; nothing writes to it.
        Some(unsafe { core::slice::from_raw_parts(mapped.0 as *const u8, bytes) })
    }
}

/// Reads the tables. Without usable ones, the machine is treated as one CPU without an I/O APIC.
#[inline(never)] // keeps its frame off the rest of the boot
pub fn read(roots: Option<Roots>) -> Box<Machine> {
    if roots.is_none() {
        warn!("ACPI: the boot loader found no tables; one CPU is used");
    }
    let found = roots.map_or_else(Found::default, |roots| super::find(&Mapped, roots));
    let soft_off = found.soft_off.and_then(soft_off);
    soft_off.into_iter().for_each(power::set_off);
    if let Some((address, value)) = found.reset
        && let Some(register) = register(address, "reset")
    {
        power::set_reset(register, value);
    }
    let hpet = found.hpet.and_then(hpet);
    let pm_timer = found.pm_timer.map(Reference::PmTimer);
    let clocks = [hpet, pm_timer, Some(Reference::Pit)];
    Box::new(Machine {
        lapic: found.madt.lapic.unwrap_or(Maddr(LAPIC_DEFAULT)),
        cpus: found.madt.cpus,
        more_cpus: found.madt.more_cpus,
        ioapics: found.madt.ioapics,
        overrides: found.madt.overrides,
        clocks: clocks.into_iter().flatten().collect(),
        hpet: found.hpet.map(Maddr),
        tables: found.tables,
    })
}

fn window(at: u64, bytes: u64) -> Option<Window> {
    let mapped = map_device(Maddr(at), bytes, paging::DEVICE)?;
    // SAFETY: mapped for good just now; the tables say that these are a device's registers.
    Some(unsafe { Window::new(mapped, bytes as usize) })
}

fn hpet(at: u64) -> Option<Reference> {
    let window = window(at, HPET_BYTES)?;
    let period_fs = window.read32(4);
    // The specification limits the period to 100 ns.
    let possible = (1..=100_000_000).contains(&period_fs);
    if !possible {
        warn!("ACPI: the HPET at {at:#x} can't have ticks of {period_fs} fs; it is not used");
    }
    possible.then_some(Reference::Hpet(window, period_fs))
}

/// The registers for S5, if they can be accessed.
fn soft_off(off: SoftOff<Address>) -> Option<SoftOff> {
    let registers = match off.registers {
        SleepRegisters::Pm1 { control, status } => SleepRegisters::Pm1 { control, status },
        SleepRegisters::Reduced { control, status } => SleepRegisters::Reduced {
            control: register(control, "sleep control")?,
            status: status.and_then(|status| register(status, "sleep status")),
        },
    };
    let types = off.types;
    Some(SoftOff { registers, types })
}

fn register(address: Address, name: &str) -> Option<Register> {
    let register = match address.space {
        MEMORY if Mapped.can_be_device(address.at, 1) => {
            window(address.at, 1).map(Register::Memory)
        }
        // ACPI 6.5 table 5.1: device, function and offset, two bytes each, on bus 0.
        PCI if address.at >> 48 == 0 && address.at & 0xffff < 256 => Some(Register::Pci {
            devfn: ((address.at >> 32 & 31) as u8 * 8) | (address.at >> 16 & 7) as u8,
            at: address.at as u8,
        }),
        _ => address.port().map(Register::Port),
    };
    if register.is_none() {
        warn!("ACPI: the {name} register can't be at {address:x?}; it is not used");
    }
    register
}

impl Machine {
    /// The line and the wiring of ISA interrupt `irq`.
    pub fn isa(&self, irq: u8) -> (u32, Trigger) {
        let wire = self.overrides.iter().find(|o| o.irq == irq);
        wire.map_or((u32::from(irq), Trigger::EdgeHigh), |o| (o.gsi, o.trigger))
    }
}
