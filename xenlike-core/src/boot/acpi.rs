//! The ACPI tables: CPUs, interrupt controllers, clocks, how to end the machine. AML is left to domain 0.
//!
//! Firmware's tables are full of faults. Whatever they contain, reading them ends, accesses nothing outside of them,
//! and keeps what is plausible; each implausible item gets a warning. [`find`] is the pure part, which the tests feed
//! with damaged tables; `machine` maps the real ones.

mod fadt;
#[cfg(target_os = "none")]
mod machine;
pub mod madt;
pub mod rsdp;
pub mod s5;
pub mod table;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use log::warn;

use crate::arch::power::{SleepRegisters, SoftOff};
use crate::life::hardware_domain::AcpiTable;
use fadt::{Address, Fadt, MEMORY};
use madt::Madt;
use rsdp::Roots;
use table::{Firmware, Table, Tables};

#[cfg(target_os = "none")]
pub use machine::{Machine, read};

/// The address of the local APICs' page unless the tables state another.
pub const LAPIC_DEFAULT: u64 = 0xfee0_0000;
const PAGE: u64 = 4096;
/// The number of bytes of an HPET's registers that are used.
pub const HPET_BYTES: u64 = 1024;

/// The contents of the tables, before any device has been accessed.
#[derive(Debug, Default)]
pub struct Found {
    /// The CPUs and interrupt controllers.
    pub madt: Madt,
    /// The address of the HPET's registers.
    pub hpet: Option<u64>,
    /// The port of the PM timer.
    pub pm_timer: Option<u16>,
    /// The registers for S5, and the values if the tables reveal them.
    pub soft_off: Option<SoftOff<Address>>,
    /// The reset register and the value that resets the machine.
    pub reset: Option<(Address, u8)>,
    /// A summary of each table, for reports.
    pub tables: Vec<AcpiTable>,
}

/// Reads all tables that the core uses.
#[inline(never)]
pub fn find(firmware: &impl Firmware, roots: Roots) -> Found {
    let tables = Tables::read(firmware, roots);
    let fadt = tables.find(b"FACP").map(Fadt);
    if fadt.is_none() {
        warn!("ACPI: there is no FADT, so nothing tells how to switch this machine off");
    }
    Found {
        madt: madt(firmware, &tables),
        hpet: hpet(firmware, &tables),
        pm_timer: fadt.and_then(Fadt::pm_timer),
        soft_off: fadt.and_then(|fadt| soft_off(firmware, &tables, fadt)),
        reset: fadt.and_then(Fadt::reset),
        tables: tables.report(),
    }
}

fn madt(firmware: &impl Firmware, tables: &Tables<'_>) -> Madt {
    let Some(table) = tables.find(b"APIC") else {
        warn!("ACPI: there is no list of CPUs (MADT); one CPU is used, and no I/O APIC");
        return Madt::default();
    };
    let mut madt = Madt::read(table);
    madt.lapic = madt.lapic.filter(|page| {
        let possible = page.0.is_multiple_of(PAGE) && firmware.can_be_device(page.0, PAGE);
        if !possible {
            warn!("ACPI: there can be no local APIC at {:#x}", page.0);
        }
        possible
    });
    madt.ioapics.retain(|ioapic| {
        let possible = firmware.can_be_device(ioapic.at.0, PAGE);
        if !possible {
            warn!("ACPI: there can be no I/O APIC at {:#x}", ioapic.at.0);
        }
        possible
    });
    madt
}

fn hpet(firmware: &impl Firmware, tables: &Tables<'_>) -> Option<u64> {
    let address = Address::read(tables.find(b"HPET")?, 40)?;
    let possible = address.space == MEMORY
        && address.at.is_multiple_of(8)
        && firmware.can_be_device(address.at, HPET_BYTES);
    if !possible {
        warn!(
            "ACPI: there can be no HPET at {:#x}, space {}; it is not used",
            address.at, address.space
        );
    }
    possible.then_some(address.at)
}

/// The registers for S5, and its sleep types if the DSDT or an SSDT states them in a form that can be read without
/// executing AML. Otherwise domain 0 passes them when it switches the machine off.
fn soft_off(
    firmware: &impl Firmware,
    tables: &Tables<'_>,
    fadt: Fadt<'_>,
) -> Option<SoftOff<Address>> {
    let Some(registers) = sleep_registers(fadt) else {
        warn!("ACPI: the FADT names no register to switch this machine off");
        return None;
    };
    let dsdt = fadt.dsdt().find_map(|at| Table::find(firmware, at));
    let aml = dsdt.into_iter().chain(tables.all(b"SSDT"));
    let types = aml.filter_map(|table| s5::sleep_types(table.bytes)).next();
    if types.is_none() {
        warn!("ACPI: no table tells plainly how to enter S5; that is left to domain 0");
    }
    Some(SoftOff { registers, types })
}

fn sleep_registers(fadt: Fadt<'_>) -> Option<SleepRegisters<Address>> {
    if let Some((control, status)) = fadt.sleep() {
        return Some(SleepRegisters::Reduced { control, status });
    }
    let control = fadt.pm1_control();
    let status = fadt.pm1_status();
    (control != [None; 2]).then_some(SleepRegisters::Pm1 { control, status })
}
