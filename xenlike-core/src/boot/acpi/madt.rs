//! The MADT: CPUs, interrupt controllers, and how interrupts are wired (ACPI 6.5 §5.2.12).

use arrayvec::ArrayVec;
use log::warn;

use super::table::{Table, field};
use crate::arch::ioapic::Trigger;
use crate::kit::{MAX_CPUS, Maddr};

/// Where the entries begin.
const ENTRIES: usize = 44;
/// The ids that mean all CPUs, to an xAPIC and to an x2APIC.
const XAPIC_ALL: u32 = 0xff;
const X2APIC_ALL: u32 = u32::MAX;
/// Types of the entries that say how NMIs are wired.
const LOCAL_NMI: u8 = 4;
const X2APIC_NMI: u8 = 10;

/// No line has a higher number: domain 0 could not have it (`life::hardware`), and the numbers of messages
/// begin behind the last line's.
const MAX_GSI: u32 = 1024;

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicInfo {
    /// Its registers.
    pub at: Maddr,
    /// The line of its first pin.
    pub first_gsi: u32,
}

/// How an ISA interrupt is wired, where not one to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// The ISA interrupt.
    pub irq: u8,
    /// Its line.
    pub gsi: u32,
    /// How it asks.
    pub trigger: Trigger,
}

/// A CPU that may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// Its APIC's id.
    pub id: u32,
    /// The firmware's number for it, by which other entries name it.
    pub number: u32,
    /// How NMIs are wired to its LINT0 and LINT1.
    pub nmi_pins: [Option<Trigger>; 2],
}

/// NMIs arrive at LINT1 unless the tables say otherwise, as on every PC (MultiProcessor Specification 1.4 §3.6.2).
const USUAL_NMI: [Option<Trigger>; 2] = [None, Some(Trigger::EdgeHigh)];

/// How NMIs are wired to LINT0 and LINT1 of the CPU with APIC id `id`.
pub fn nmi_pins(cpus: &[Processor], id: u32) -> [Option<Trigger>; 2] {
    let cpu = cpus.iter().find(|cpu| cpu.id == id);
    cpu.map_or(USUAL_NMI, |cpu| cpu.nmi_pins)
}

/// What the table tells.
#[derive(Debug, Default)]
pub struct Madt {
    /// Where the local APICs' page is, if the table says so.
    pub lapic: Option<Maddr>,
    /// The CPUs, in the firmware's order.
    pub cpus: ArrayVec<Processor, MAX_CPUS>,
    /// Whether there are more CPUs than the core can use.
    pub more_cpus: bool,
    /// I/O APICs.
    pub ioapics: ArrayVec<IoApicInfo, 16>,
    /// ISA interrupts that are wired otherwise.
    pub overrides: ArrayVec<Override, 16>,
}

/// The entries of the table: type and bytes. The first one whose length can't be is the last one, with that length.
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
    /// Reads the table.
    pub fn read(table: Table<'_>) -> Self {
        let mut madt = Self {
            lapic: table.field::<u32>(36).map(|at| Maddr(at.into())),
            ..Self::default()
        };
        // NMI entries name CPUs by number, and may precede them: they are read once all CPUs are known.
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

    /// Takes an entry; nothing if it is shorter than its type says.
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
            // An NMI by an I/O APIC's pin stays masked.
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

    /// Bit 0 of the flags: enabled. The others may be plugged in later, which the core does not support.
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

/// The flags of a wire (ACPI 6.5 table 5.26); an ISA bus conforms to rising edges.
fn trigger(flags: u16) -> Trigger {
    Trigger::from_wire(flags >> 2 & 3 == 3, flags & 3 == 3)
}
