//! The MADT: CPUs, interrupt controllers, and the wiring of interrupts (ACPI 6.5 §5.2.12).

use arrayvec::ArrayVec;
use log::warn;

use super::table::{Table, field};
use crate::arch::ioapic::Trigger;
use crate::kit::{MAX_CPUS, Maddr};

/// The offset of the first entry.
const ENTRIES: usize = 44;
/// The ids that mean all CPUs, to an xAPIC and to an x2APIC.
const XAPIC_ALL: u32 = 0xff;
const X2APIC_ALL: u32 = u32::MAX;
/// The types of entries that say how NMIs are wired.
const LOCAL_NMI: u8 = 4;
const X2APIC_NMI: u8 = 10;

/// Lines have numbers below this one: domain 0 could not have a higher one (`life::hardware_domain`), and the numbers of
/// messages begin behind the last line.
const MAX_GSI: u32 = 1024;

/// An I/O APIC that the table describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicInfo {
    /// The address of its registers.
    pub at: Maddr,
    /// The line of its first pin.
    pub first_gsi: u32,
}

/// The wiring of an ISA interrupt that is not wired one to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// The number of the ISA interrupt.
    pub irq: u8,
    /// The line to which it is wired.
    pub gsi: u32,
    /// The condition on which it requests.
    pub trigger: Trigger,
}

/// A CPU that may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// The id of its APIC.
    pub id: u32,
    /// The firmware's number for it, by which other entries refer to it.
    pub number: u32,
    /// The wiring of NMIs to its LINT0 and LINT1.
    pub nmi_pins: [Option<Trigger>; 2],
}

/// The default wiring of NMIs: to LINT1, as on every PC (MultiProcessor Specification 1.4 §3.6.2).
const USUAL_NMI: [Option<Trigger>; 2] = [None, Some(Trigger::EdgeHigh)];

/// The wiring of NMIs to LINT0 and LINT1 of the CPU with APIC id `id`.
pub fn nmi_pins(cpus: &[Processor], id: u32) -> [Option<Trigger>; 2] {
    let cpu = cpus.iter().find(|cpu| cpu.id == id);
    cpu.map_or(USUAL_NMI, |cpu| cpu.nmi_pins)
}

/// The contents of the table.
#[derive(Debug, Default)]
pub struct Madt {
    /// The address of the local APICs' page, if the table states it.
    pub lapic: Option<Maddr>,
    /// The CPUs, in the firmware's order.
    pub cpus: ArrayVec<Processor, MAX_CPUS>,
    /// Whether there are more CPUs than the core can use.
    pub more_cpus: bool,
    /// The I/O APICs, in the firmware's order.
    pub ioapics: ArrayVec<IoApicInfo, 16>,
    /// The ISA interrupts that are not wired one to one.
    pub overrides: ArrayVec<Override, 16>,
}

/// The entries of the table: type and bytes. An entry with an impossible length ends the list, with
/// that length as an error.
fn entries(table: Table<'_>) -> impl Iterator<Item = (u8, Result<&[u8], usize>)> {
    let mut rest = table.bytes.get(ENTRIES..).unwrap_or_default();
    core::iter::from_fn(move || {
        let (kind, length) = (*rest.first()?, usize::from(*rest.get(1)?));
        let split = rest.split_at_checked(length).filter(|_| length >= 2);
        rest = split.map_or(&[][..], |(_, behind)| behind);
        Some((kind, split.map(|(entry, _)| entry).ok_or(length)))
    })
}

impl Madt {
    /// Parses the table, and warns of what is left out.
    pub fn read(table: Table<'_>) -> Self {
        let mut madt = Self {
            lapic: table.field::<u32>(36).map(|at| Maddr(at.into())),
            ..Self::default()
        };
        // NMI entries refer to CPUs by number and may precede them, so they are read once all CPUs are known.
        let is_nmi = |kind| kind == LOCAL_NMI || kind == X2APIC_NMI;
        for nmis in [false, true] {
            for (kind, entry) in entries(table).filter(|(kind, _)| is_nmi(*kind) == nmis) {
                match entry.map(|entry| madt.take(kind, entry)) {
                    Ok(Some(())) => {}
                    Ok(None) => {
                        warn!(
                            "ACPI: an entry of the MADT (type {kind}) is too short; it is left out"
                        );
                    }
                    Err(length) => warn!(
                        "ACPI: an entry of the MADT (type {kind}) can't be {length} bytes long; the rest is left out"
                    ),
                }
            }
        }
        if madt.cpus.iter().all(|cpu| cpu.nmi_pins == [None; 2]) {
            let cpus = madt.cpus.iter_mut();
            cpus.for_each(|cpu| cpu.nmi_pins = USUAL_NMI);
        }
        madt
    }

    /// Takes an entry; `None` if it is shorter than its type requires.
    fn take(&mut self, kind: u8, entry: &[u8]) -> Option<()> {
        let byte = |at| field::<u8>(entry, at);
        let word = |at| field::<u32>(entry, at);
        match kind {
            0 => {
                let cpu = Processor {
                    id: byte(3)?.into(),
                    number: byte(2)?.into(),
                    nmi_pins: [None; 2],
                };
                self.add_cpu(cpu, word(4)?, XAPIC_ALL);
            }
            1 => {
                let info = IoApicInfo {
                    at: Maddr(word(4)?.into()),
                    first_gsi: word(8)?,
                };
                self.add_ioapic(info);
            }
            2 => {
                let wire = Override {
                    irq: byte(3)?,
                    gsi: word(4)?,
                    trigger: trigger(field(entry, 8)?),
                };
                let _ = self.overrides.try_push(wire);
            }
            // The pin of an I/O APIC that delivers an NMI stays masked.
            3 => warn!("ACPI: the NMI at line {} is left out", word(4)?),
            LOCAL_NMI => {
                let number = byte(2).filter(|number| *number != u8::MAX);
                self.add_nmi(number.map(u32::from), field(entry, 3)?, byte(5)?);
            }
            5 => self.lapic = Some(Maddr(field(entry, 4)?)),
            9 => {
                let cpu = Processor {
                    id: word(4)?,
                    number: word(12)?,
                    nmi_pins: [None; 2],
                };
                self.add_cpu(cpu, word(8)?, X2APIC_ALL);
            }
            X2APIC_NMI => {
                let number = word(4).filter(|number| *number != u32::MAX);
                self.add_nmi(number, field(entry, 2)?, byte(8)?);
            }
            _ => {}
        }
        Some(())
    }

    /// Adds a CPU if it is enabled (bit 0 of the flags). The core doesn't support CPUs that are plugged in later.
    fn add_cpu(&mut self, cpu: Processor, flags: u32, everyone: u32) {
        let known = self.cpus.iter().any(|other| other.id == cpu.id);
        if flags & 1 != 0 && cpu.id != everyone && !known {
            self.more_cpus |= self.cpus.try_push(cpu).is_err();
        }
    }

    fn add_ioapic(&mut self, info: IoApicInfo) {
        let same = |other: &IoApicInfo| other.at == info.at || other.first_gsi == info.first_gsi;
        let impossible =
            info.at.0 == 0 || !info.at.offset().is_multiple_of(4) || info.first_gsi >= MAX_GSI;
        if impossible || self.ioapics.iter().any(same) {
            warn!(
                "ACPI: there can be no I/O APIC at {:#x} with the lines from {} on; it is left out",
                info.at.0, info.first_gsi
            );
        } else if self.ioapics.try_push(info).is_err() {
            warn!("ACPI: there are more I/O APICs than are used");
        }
    }

    /// Wires an NMI to LINT0 or LINT1 of the processor with this number, or of all. The first entry for a pin wins.
    fn add_nmi(&mut self, number: Option<u32>, flags: u16, lint: u8) {
        let is_meant = |cpu: &&mut Processor| number.is_none_or(|number| number == cpu.number);
        for cpu in self.cpus.iter_mut().filter(is_meant) {
            let [lint0, lint1] = &mut cpu.nmi_pins;
            let pin = if lint & 1 == 0 { lint0 } else { lint1 };
            pin.get_or_insert(trigger(flags));
        }
    }
}

/// The trigger that the flags of a wire state (ACPI 6.5 table 5.26). Flags of 0 mean the bus' default, which for
/// ISA is a rising edge.
fn trigger(flags: u16) -> Trigger {
    Trigger::from_wire(flags >> 2 & 3 == 3, flags & 3 == 3)
}
