//! I/O APICs: where each interrupt line goes. Lines are named by their global system interrupt (GSI, ACPI 6.5 §5.2.13).

use alloc::vec::Vec;
use arrayvec::ArrayVec;

use super::mmio::Window;
use super::port::outb;
use crate::kit::{CpuId, Lock, Maddr, Rank};

const MAX_IOAPICS: usize = 16;
/// The register window, and the registers behind it (82093AA data sheet).
const SELECT: usize = 0x00;
const DATA: usize = 0x10;
const VERSION: u32 = 1;
const ARBITRATION: u32 = 2;
const FIRST_PIN: u32 = 0x10;
const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const LOW_ACTIVE: u64 = 1 << 13;

/// The condition on which a line requests an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// A rising edge, which requests once.
    EdgeHigh,
    /// A falling edge, which requests once.
    EdgeLow,
    /// A high level, for as long as it lasts.
    LevelHigh,
    /// A low level, for as long as it lasts.
    LevelLow,
}

impl Trigger {
    /// Whether the line requests for as long as its cause lasts.
    pub const fn is_level(self) -> bool {
        matches!(self, Self::LevelHigh | Self::LevelLow)
    }

    /// The trigger of a line with these two properties.
    pub const fn from_wire(level: bool, low: bool) -> Self {
        match (level, low) {
            (false, false) => Self::EdgeHigh,
            (false, true) => Self::EdgeLow,
            (true, false) => Self::LevelHigh,
            (true, true) => Self::LevelLow,
        }
    }

    /// The trigger that the low half of a redirection entry states.
    pub const fn from_entry(low: u32) -> Self {
        Self::from_wire(low as u64 & LEVEL != 0, low as u64 & LOW_ACTIVE != 0)
    }

    /// Whether it is a low level or a falling edge.
    pub const fn is_low_active(self) -> bool {
        matches!(self, Self::EdgeLow | Self::LevelLow)
    }

    const fn bits(self) -> u64 {
        match self {
            Self::EdgeHigh => 0,
            Self::EdgeLow => LOW_ACTIVE,
            Self::LevelHigh => LEVEL,
            Self::LevelLow => LEVEL | LOW_ACTIVE,
        }
    }
}

/// Whether a line's interrupts pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// The line's interrupts are delivered.
    Open,
    /// The line's interrupts are held back.
    Masked,
}

struct IoApic {
    window: Window,
    at: Maddr,
    first_gsi: u32,
    /// The redirection entries as they were last written, so that masking needs no read.
    entries: Vec<u64>,
}

static IOAPICS: Lock<ArrayVec<IoApic, MAX_IOAPICS>> =
    Lock::new(Rank::IoApics, ArrayVec::new_const());

impl IoApic {
    fn read(&self, register: u32) -> u32 {
        self.window.write32(SELECT, register);
        self.window.read32(DATA)
    }
    fn write(&self, register: u32, value: u32) {
        self.window.write32(SELECT, register);
        self.window.write32(DATA, value);
    }
    fn write_low(&self, pin: u32, entry: u64) {
        self.write(FIRST_PIN + 2 * pin, entry as u32);
    }
    /// Writes an entry. It is masked in between, so that a half-written entry never takes effect.
    fn set_entry(&mut self, pin: u32, entry: u64) {
        self.write_low(pin, entry | MASKED);
        self.write(FIRST_PIN + 2 * pin + 1, (entry >> 32) as u32);
        self.write_low(pin, entry);
        if let Some(kept) = self.entries.get_mut(pin as usize) {
            *kept = entry;
        }
    }
    /// Writes only the low half: one access, and the remote IRR of a level line is kept.
    fn set_mask(&mut self, pin: u32, gate: Gate) {
        let Some(entry) = self.entries.get_mut(pin as usize) else {
            return;
        };
        *entry = match gate {
            Gate::Open => *entry & !MASKED,
            Gate::Masked => *entry | MASKED,
        };
        let entry = *entry;
        self.write_low(pin, entry);
    }
    fn pins(&self) -> u32 {
        self.entries.len() as u32
    }
}

/// Whether the delivery mode of a redirection entry is SMI: such a pin belongs to the firmware and is left alone.
const fn is_smi(entry: u64) -> bool {
    entry >> 8 & 7 == 2
}

/// Adds the I/O APIC at `at`, whose first pin has GSI `first_gsi`. Masks all its pins except the firmware's SMI pins.
pub fn add(window: Window, at: Maddr, first_gsi: u32) {
    let mut ioapic = IoApic {
        window,
        at,
        first_gsi,
        entries: Vec::new(),
    };
    let version = ioapic.read(VERSION);
    if version == u32::MAX {
        log::warn!("there is no I/O APIC at {:#x}", at.0);
        return;
    }
    let pins = (version >> 16 & 0xff) + 1;
    ioapic.entries.resize(pins as usize, MASKED);
    for pin in 0..pins {
        let low = u64::from(ioapic.read(FIRST_PIN + 2 * pin));
        if is_smi(low) {
            ioapic.entries[pin as usize] = low;
        } else {
            ioapic.set_entry(pin, MASKED);
        }
    }
    // Beyond MAX_IOAPICS, an I/O APIC is not used, and its pins stay masked.
    let _ = IOAPICS.lock().try_push(ioapic);
}

fn with_pin<R>(gsi: u32, act: impl FnOnce(&mut IoApic, u32) -> R) -> Option<R> {
    let mut ioapics = IOAPICS.lock();
    let holds = |i: &&mut IoApic| {
        gsi.checked_sub(i.first_gsi)
            .is_some_and(|pin| pin < i.pins())
    };
    let ioapic = ioapics.iter_mut().find(holds)?;
    let pin = gsi - ioapic.first_gsi;
    let is_firmwares = ioapic
        .entries
        .get(pin as usize)
        .is_some_and(|entry| is_smi(*entry));
    (!is_firmwares).then(|| act(ioapic, pin))
}

/// Sends line `gsi` as `vector` to `cpu`. `None` if no I/O APIC has the line, if it belongs to the firmware, or if no
/// CPU can be addressed.
pub fn route(gsi: u32, vector: u8, cpu: CpuId, trigger: Trigger, gate: Gate) -> Option<()> {
    let mask = match gate {
        Gate::Open => 0,
        Gate::Masked => MASKED,
    };
    let to = u64::from(super::lapic::device_target(cpu)?) << 56;
    with_pin(gsi, |ioapic, pin| {
        ioapic.set_entry(pin, u64::from(vector) | trigger.bits() | mask | to)
    })
}

/// Opens or masks line `gsi`, which stays routed.
pub fn set_gate(gsi: u32, gate: Gate) -> Option<()> {
    with_pin(gsi, |ioapic, pin| ioapic.set_mask(pin, gate))
}

/// The number of lines: the highest GSI plus one.
pub fn lines() -> u32 {
    IOAPICS
        .lock()
        .iter()
        .map(|i| i.first_gsi + i.pins())
        .max()
        .unwrap_or(0)
}

/// The line whose redirection entry contains register `register` of the I/O APIC at `at`, and whether the
/// register is its lower half.
///
/// # Errors
/// [`NoSuch`] says whether the I/O APIC or the register does not exist.
pub fn line_of_register(at: Maddr, register: u32) -> Result<(u32, bool), NoSuch> {
    let ioapics = IOAPICS.lock();
    let ioapic = ioapics.iter().find(|i| i.at == at).ok_or(NoSuch::Ioapic)?;
    let half = register.checked_sub(FIRST_PIN).ok_or(NoSuch::Register)?;
    if half / 2 >= ioapic.pins() {
        return Err(NoSuch::Register);
    }
    Ok((ioapic.first_gsi + half / 2, half.is_multiple_of(2)))
}

/// Reads a register of the I/O APIC at `at`.
///
/// # Errors
/// [`NoSuch`] says whether the I/O APIC or the register does not exist.
pub fn register(at: Maddr, register: u32) -> Result<u32, NoSuch> {
    let ioapics = IOAPICS.lock();
    let ioapic = ioapics.iter().find(|i| i.at == at).ok_or(NoSuch::Ioapic)?;
    let end = FIRST_PIN + 2 * ioapic.pins();
    match register {
        0..=ARBITRATION => Ok(ioapic.read(register)),
        FIRST_PIN.. if register < end => Ok(ioapic.read(register)),
        _ => Err(NoSuch::Register),
    }
}

/// Why a register can't be accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoSuch {
    /// There is no I/O APIC at this address.
    Ioapic,
    /// The I/O APIC has no such register.
    Register,
}

/// Masks all inputs of the two 8259 controllers, after it has moved their vectors to 0x20 and up, clear of the
/// exceptions: spurious interrupts can't be masked.
pub fn silence_pics() {
    for (command, data, vector, wiring) in [(0x20, 0x21, 0x20, 4), (0xa0, 0xa1, 0x28, 2)] {
        // ICW1 (edge-triggered, cascaded, ICW4 follows), ICW2 (vectors), ICW3 (how the two are cascaded), ICW4 (8086
        // mode); then the mask of all inputs (8259A data sheet).
        outb(command, 0x11);
        outb(data, vector);
        outb(data, wiring);
        outb(data, 1);
        outb(data, 0xff);
    }
}
