//! What the ACPI tables tell: CPUs, interrupt controllers, clocks. AML is domain 0's matter.
#![expect(unsafe_code, reason = "maps the firmware's tables")]

use core::ptr::NonNull;

use acpi::fadt::Fadt;
use acpi::hpet::HpetInfo;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use arrayvec::ArrayVec;
use log::warn;

use super::info::AcpiRoot;
use super::memory::map_device;
use crate::arch::calibrate::Reference;
use crate::arch::ioapic::Trigger;
use crate::arch::mmio::Window;
use crate::arch::paging;
use crate::kit::{MAX_CPUS, Maddr};

/// Where the local APICs' page is unless the tables say otherwise.
const LAPIC_DEFAULT: u64 = 0xfee0_0000;
const HPET_BYTES: u64 = 1024;

/// An I/O APIC.
#[derive(Clone, Copy, Debug)]
pub struct IoApicInfo {
    /// Its registers.
    pub at: Maddr,
    /// The line of its first pin.
    pub first_gsi: u32,
}

/// How an ISA interrupt is wired, where not one to one.
#[derive(Clone, Copy, Debug)]
pub struct Override {
    /// The ISA interrupt.
    pub irq: u8,
    /// Its line.
    pub gsi: u32,
    /// How it asks.
    pub trigger: Trigger,
}

/// What was found.
#[derive(Debug)]
pub struct Machine {
    /// The local APICs' page.
    pub lapic: Maddr,
    /// APIC ids of the CPUs that may be started, in the firmware's order.
    pub cpus: ArrayVec<u32, MAX_CPUS>,
    /// Whether there are more CPUs than the core can use.
    pub more_cpus: bool,
    /// I/O APICs.
    pub ioapics: ArrayVec<IoApicInfo, 16>,
    /// ISA interrupts that are wired otherwise.
    pub overrides: ArrayVec<Override, 16>,
    /// The best clock to measure the TSC by.
    pub clock: Reference,
}

/// Maps tables for good; they are few.
#[derive(Clone)]
struct Mapper;

impl AcpiHandler for Mapper {
    unsafe fn map_physical_region<T>(&self, at: usize, bytes: usize) -> PhysicalMapping<Self, T> {
        let mapped = map_device(Maddr(at as u64), bytes as u64, paging::RODATA);
        let pointer = mapped.and_then(|va| NonNull::new(va.0 as *mut T));
        let Some(pointer) = pointer else {
            super::panic::refuse("there is no memory to map the ACPI tables")
        };
        // SAFETY: mapped for good, as long as asked for.
        unsafe { PhysicalMapping::new(at, pointer, bytes, bytes, Self) }
    }
    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

/// Reads the tables. Without usable ones the machine is taken for one CPU without I/O APIC.
pub fn read(root: Option<AcpiRoot>) -> Machine {
    let mut machine = Machine {
        lapic: Maddr(LAPIC_DEFAULT),
        cpus: ArrayVec::new(),
        more_cpus: false,
        ioapics: ArrayVec::new(),
        overrides: ArrayVec::new(),
        clock: Reference::Pit,
    };
    let Some(root) = root else {
        warn!("ACPI: the boot loader found no tables; one CPU is used");
        return machine;
    };
    // SAFETY: GRUB checked the root pointer's sum; `Mapper` maps whatever the tables name.
    let tables = unsafe { AcpiTables::from_rsdt(Mapper, root.revision, root.table.0 as usize) };
    match tables {
        Ok(tables) => read_tables(&tables, &mut machine),
        Err(error) => warn!("ACPI: {error:?}; one CPU is used"),
    }
    machine
}

fn read_tables(tables: &AcpiTables<Mapper>, machine: &mut Machine) {
    match tables.find_table::<Madt>() {
        Ok(madt) => {
            machine.lapic = Maddr(u64::from(madt.get().local_apic_address));
            madt.get()
                .entries()
                .for_each(|entry| read_entry(&entry, machine));
        }
        Err(error) => warn!("ACPI: no list of CPUs: {error:?}"),
    }
    match super::soft_off::find(tables, &Mapper) {
        Some(ports) => crate::arch::power::set_off(ports),
        None => warn!("ACPI: nothing tells how to switch this machine off"),
    }
    if let Some(clock) = hpet(tables).or_else(|| pm_timer(tables)) {
        machine.clock = clock;
    }
}

fn hpet(tables: &AcpiTables<Mapper>) -> Option<Reference> {
    let info = HpetInfo::new(tables).ok()?;
    let at = map_device(Maddr(info.base_address as u64), HPET_BYTES, paging::DEVICE)?;
    // SAFETY: mapped for good just now; the table says that these are the HPET's registers.
    let window = unsafe { Window::new(at, HPET_BYTES as usize) };
    let period_fs = window.read32(4);
    // The specification's limit is 100 ns.
    (1..=100_000_000)
        .contains(&period_fs)
        .then_some(Reference::Hpet(window, period_fs))
}

fn pm_timer(tables: &AcpiTables<Mapper>) -> Option<Reference> {
    let fadt = tables.find_table::<Fadt>().ok()?;
    let block = fadt.get().pm_timer_block().ok()??;
    let port = u16::try_from(block.address).ok()?;
    matches!(block.address_space, acpi::address::AddressSpace::SystemIo)
        .then_some(Reference::PmTimer(port))
}

fn read_entry(entry: &MadtEntry<'_>, machine: &mut Machine) {
    // Bit 0: enabled. The others may be plugged in later, which the core does not support.
    let add_cpu = |cpus: &mut ArrayVec<u32, MAX_CPUS>, id: u32, flags: u32| {
        flags & 1 != 0 && !cpus.contains(&id) && cpus.try_push(id).is_err()
    };
    match entry {
        MadtEntry::LocalApic(cpu) => {
            machine.more_cpus |= add_cpu(&mut machine.cpus, u32::from(cpu.apic_id), cpu.flags);
        }
        MadtEntry::LocalX2Apic(cpu) => {
            machine.more_cpus |= add_cpu(&mut machine.cpus, cpu.x2apic_id, cpu.flags);
        }
        MadtEntry::LocalApicAddressOverride(page) => {
            machine.lapic = Maddr(page.local_apic_address);
        }
        MadtEntry::IoApic(ioapic) => {
            let info = IoApicInfo {
                at: Maddr(u64::from(ioapic.io_apic_address)),
                first_gsi: ioapic.global_system_interrupt_base,
            };
            let _ = machine.ioapics.try_push(info);
        }
        MadtEntry::InterruptSourceOverride(wire) => {
            let wire = Override {
                irq: wire.irq,
                gsi: wire.global_system_interrupt,
                trigger: trigger(wire.flags),
            };
            let _ = machine.overrides.try_push(wire);
        }
        _ => {}
    }
}

/// The MADT's flags (ACPI 6.5 table 5.26); an ISA bus conforms to rising edges.
fn trigger(flags: u16) -> Trigger {
    Trigger::from_wire(flags >> 2 & 3 == 3, flags & 3 == 3)
}

impl Machine {
    /// How ISA interrupt `irq` is wired.
    pub fn isa(&self, irq: u8) -> (u32, Trigger) {
        let wire = self.overrides.iter().find(|o| o.irq == irq);
        wire.map_or((u32::from(irq), Trigger::EdgeHigh), |o| (o.gsi, o.trigger))
    }
}
