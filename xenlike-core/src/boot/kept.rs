//! What the core keeps of the machine, and domain 0 doesn't get.

use super::acpi::Machine;
use super::options::Options;
use crate::arch::power;
use crate::console;
use crate::life::hardware::Kept;

/// The core's serial port, its interrupt, and the interrupt controllers' pages.
pub fn kept(machine: &Machine, options: &Options) -> Kept {
    let serial = console::serial_ports();
    let port_range =
        |ports: core::ops::Range<u16>| u64::from(ports.start)..=u64::from(ports.end) - 1;
    let off_ports = power::off_ports().map(|port| u64::from(port)..=u64::from(port) + 1);
    let irq = options
        .serial
        .map(|setting| setting.irq)
        .filter(|irq| *irq != 0);
    let controllers = machine.ioapics.iter().map(|ioapic| ioapic.at.0);
    Kept {
        ports: serial
            .map(port_range)
            .into_iter()
            .chain(off_ports)
            .collect(),
        pages: core::iter::once(machine.lapic.0)
            .chain(controllers)
            .collect(),
        irqs: irq
            .map(|irq| u64::from(machine.isa(irq).0))
            .into_iter()
            .collect(),
    }
}
