//! Real machines: their tables are rebuilt from the facts in public dumps (`machines/facts.rs`). Everything that is
//! read from them, and every warning, is compared with what is expected.

mod facts;

use super::*;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::cell::RefCell;
use std::string::{String, ToString};
use std::thread_local;

/// A table other than the FADT and the DSDT: signature, revision, and the bytes behind the header.
type Other = (&'static [u8; 4], u8, Vec<u8>);

/// What the firmware of a machine states.
struct Machine {
    name: &'static str,
    /// Whether there is an XSDT in addition to the RSDT.
    has_xsdt: bool,
    fadt: FadtFacts,
    /// The package of `_S5_` in the DSDT, from its name on; empty if it wasn't looked up.
    s5: &'static [u8],
    tables: Vec<Other>,
    /// A number that is added to the last table's checksum.
    wrong_by: u8,
    expected: Expected,
}

/// The fields of a FADT about switching off and restarting the machine, and those near them.
#[derive(Default)]
struct FadtFacts {
    revision: u8,
    bytes: usize,
    boot_flags: u16,
    flags: u32,
    /// The ports of PM1a event, PM1a control, and the PM timer.
    ports: [u16; 3],
    /// Whether the 64-bit fields state them too.
    has_wide: bool,
    /// The port of the reset register, and the value that resets.
    reset: (u16, u8),
    /// The ports of sleep control and sleep status.
    sleep: Option<[u16; 2]>,
}

/// What must be read from the tables.
struct Expected {
    cpus: Vec<u32>,
    more_cpus: bool,
    ioapics: &'static [(u64, u32)],
    overrides: &'static [(u8, u32, Trigger)],
    /// The wiring of NMIs to LINT1 of every CPU.
    nmi: Trigger,
    hpet: Option<u64>,
    pm_timer: Option<u16>,
    off: SleepRegisters<Address>,
    s5: Option<[u8; 2]>,
    reset: Option<(u64, u8)>,
    warnings: &'static [&'static str],
}

/// The register at a port, as a generic address.
fn at_port(port: u16, bits: u8) -> [u8; 12] {
    let [low, high] = port.to_le_bytes();
    [PORTS, bits, 0, 0, low, high, 0, 0, 0, 0, 0, 0]
}

impl FadtFacts {
    fn body(&self, dsdt: u64) -> Vec<u8> {
        let mut body = vec![0; 276 - 36];
        let [event, control, timer] = self.ports;
        put(&mut body, 40, (dsdt as u32).to_le_bytes());
        put(&mut body, 46, 9_u16.to_le_bytes()); // SCI
        put(&mut body, 56, event.to_le_bytes());
        put(&mut body, 64, control.to_le_bytes());
        put(&mut body, 76, timer.to_le_bytes());
        put(&mut body, 88, [4, 2, 1, 4]); // lengths of these blocks
        put(&mut body, 109, self.boot_flags.to_le_bytes());
        put(&mut body, 112, self.flags.to_le_bytes());
        put(&mut body, 116, at_port(self.reset.0, 8));
        put(&mut body, 128, [self.reset.1]);
        put(&mut body, 140, dsdt.to_le_bytes());
        if self.has_wide {
            put(&mut body, 148, at_port(event, 32));
            put(&mut body, 160, at_port(0, 0)); // there is no PM1b
            put(&mut body, 172, at_port(control, 16));
            put(&mut body, 184, at_port(0, 0));
            put(&mut body, 208, at_port(timer, 32));
        }
        if let Some([control, status]) = self.sleep {
            put(&mut body, 244, at_port(control, 8));
            put(&mut body, 256, at_port(status, 8));
        }
        body.truncate(self.bytes - 36);
        body
    }
}

impl Machine {
    /// The machine's memory with its tables.
    fn build(&self) -> (Memory, Roots) {
        let mut memory = Memory(vec![0; 64]);
        let dsdt = memory.add(b"DSDT", self.s5);
        let fadt = memory.add_revision(b"FACP", self.fadt.revision, &self.fadt.body(dsdt));
        let mut tables = vec![fadt];
        for (signature, revision, body) in &self.tables {
            tables.push(memory.add_revision(signature, *revision, body));
        }
        let last = (tables[tables.len() - 1] - BASE) as usize;
        memory.0[last + 9] = memory.0[last + 9].wrapping_add(self.wrong_by);
        let narrow = tables.iter().flat_map(|at| (*at as u32).to_le_bytes());
        let wide: Vec<u8> = tables.iter().flat_map(|at| at.to_le_bytes()).collect();
        let rsdt = Some(memory.add(b"RSDT", &narrow.collect::<Vec<u8>>()));
        let xsdt = self.has_xsdt.then(|| memory.add(b"XSDT", &wide));
        (memory, Roots { xsdt, rsdt })
    }
}

/// The tables of all machines, for the fuzzer.
pub(super) fn seeds() -> impl Iterator<Item = (Memory, Roots)> {
    facts::all().into_iter().map(|machine| machine.build())
}

/// Collects the warnings of a thread that asks for them.
struct Warnings;

thread_local! {
    static KEPT: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

impl Log for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }
    fn log(&self, record: &Record<'_>) {
        KEPT.with_borrow_mut(|kept| {
            if let Some(kept) = kept.as_mut().filter(|_| self.enabled(record.metadata())) {
                kept.push(record.args().to_string());
            }
        });
    }
    fn flush(&self) {}
}

/// Returns the result of `work`, and its warnings.
pub(super) fn with_warnings<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let _ = log::set_logger(&Warnings);
    log::set_max_level(LevelFilter::Info);
    KEPT.set(Some(Vec::new()));
    let result = work();
    (result, KEPT.take().unwrap_or_default())
}

#[test]
fn real_machines_are_read() {
    for machine in facts::all() {
        let (memory, roots) = machine.build();
        let (found, warnings) = with_warnings(|| find(&memory, roots));
        let (name, expected) = (machine.name, machine.expected);
        let madt = found.madt;
        let ids: Vec<u32> = madt.cpus.iter().map(|cpu| cpu.id).collect();
        assert_eq!(ids, expected.cpus, "{name}");
        assert_eq!(madt.more_cpus, expected.more_cpus, "{name}");
        assert_eq!(madt.lapic, Some(Maddr(LAPIC_DEFAULT)), "{name}");
        let ioapics = madt.ioapics.iter().map(|i| (i.at.0, i.first_gsi));
        assert_eq!(ioapics.collect::<Vec<_>>(), expected.ioapics, "{name}");
        let overrides = madt.overrides.iter().map(|o| (o.irq, o.gsi, o.trigger));
        assert_eq!(overrides.collect::<Vec<_>>(), expected.overrides, "{name}");
        for id in ids {
            let pins = madt::nmi_pins(&madt.cpus, id);
            assert_eq!(pins, [None, Some(expected.nmi)], "{name}, CPU {id:#x}");
        }
        let clocks = (found.hpet, found.pm_timer);
        assert_eq!(clocks, (expected.hpet, expected.pm_timer), "{name}");
        let off = SoftOff {
            registers: expected.off,
            types: expected.s5,
        };
        assert_eq!(found.soft_off, Some(off), "{name}");
        let reset = expected.reset.map(|(at, value)| {
            let space = PORTS;
            (Address { space, at }, value)
        });
        assert_eq!(found.reset, reset, "{name}");
        assert_eq!(warnings, expected.warnings, "{name}");
    }
}
