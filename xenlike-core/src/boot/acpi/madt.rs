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
/// The processor number in an NMI entry that means all, in the old form.
const ALL_PROCESSORS: u32 = 0xff;

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
}

/// A pin of local APICs to which the machine's NMI is wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalNmi {
    /// Of which processor, by the firmware's number; nothing means all.
    pub number: Option<u32>,
    /// LINT0 or LINT1.
    pub pin: u8,
    /// Whether it asks by a low level.
    pub trigger: Trigger,
}

/// How NMIs reach the CPUs.
#[derive(Clone, Debug, Default)]
pub struct NmiWires {
    /// The CPUs.
    pub cpus: ArrayVec<Processor, MAX_CPUS>,
    /// The wires.
    pub wires: ArrayVec<LocalNmi, 16>,
}

impl NmiWires {
    /// How NMIs are wired to LINT0 and LINT1 of the CPU with APIC id `id`. Where the tables don't say, to
    /// LINT1, as on every PC (MultiProcessor Specification 1.4 §3.6.2).
    pub fn pins(&self, id: u32) -> [Option<Trigger>; 2] {
        if self.wires.is_empty() {
            return [None, Some(Trigger::EdgeHigh)];
        }
        let cpu = self.cpus.iter().find(|cpu| cpu.id == id);
        let number = cpu.map(|cpu| cpu.number);
        [0, 1].map(|pin| {
            let mut wires = self.wires.iter().filter(|wire| wire.pin == pin);
            let wire = wires.find(|wire| wire.number.is_none() || wire.number == number)?;
            Some(wire.trigger)
        })
    }
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
    /// Pins that have NMIs.
    pub nmis: ArrayVec<LocalNmi, 16>,
}

/// The entries of the table: type and bytes. Ends at the first one whose length can't be.
fn entries(table: Table<'_>) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = table.bytes.get(ENTRIES..).unwrap_or_default();
    core::iter::from_fn(move || {
        let (kind, length) = (*rest.first()?, usize::from(*rest.get(1)?));
        let Some((entry, behind)) = rest.split_at_checked(length).filter(|_| length >= 2) else {
            warn!(
                "ACPI: an entry of the MADT (type {kind}) can't be {length} bytes long; the rest is left out"
            );
            rest = &[];
            return None;
        };
        rest = behind;
        Some((kind, entry))
    })
}

impl Madt {
    /// Reads the table.
    pub fn read(table: Table<'_>) -> Self {
        let mut madt = Self {
            lapic: table.field::<u32>(36).map(|at| Maddr(at.into())),
            ..Self::default()
        };
        for (kind, entry) in entries(table) {
            if madt.take(kind, entry).is_none() {
                warn!("ACPI: an entry of the MADT (type {kind}) is too short; it is left out");
            }
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
            4 => self.add_nmi(byte(2)?.into(), field(entry, 3)?, byte(5)?),
            5 => self.lapic = Some(Maddr(field(entry, 4)?)),
            9 => {
                let cpu = Processor {
                    id: word(4)?,
                    number: word(12)?,
                };
                self.add_cpu(cpu, word(8)?, X2APIC_ALL);
            }
            10 => {
                let number = word(4)?;
                let old_form = if number == u32::MAX {
                    ALL_PROCESSORS
                } else {
                    number
                };
                self.add_nmi(old_form, field(entry, 2)?, byte(8)?);
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

    fn add_nmi(&mut self, number: u32, flags: u16, pin: u8) {
        let nmi = LocalNmi {
            number: Some(number).filter(|number| *number != ALL_PROCESSORS),
            pin: pin & 1,
            trigger: trigger(flags),
        };
        let _ = self.nmis.try_push(nmi);
    }
}

/// The flags of a wire (ACPI 6.5 table 5.26); an ISA bus conforms to rising edges.
fn trigger(flags: u16) -> Trigger {
    Trigger::from_wire(flags >> 2 & 3 == 3, flags & 3 == 3)
}
