//! I/O APICs: which interrupt line goes where. Lines are named by their global system interrupt.

use arrayvec::ArrayVec;

use super::mmio::Window;
use super::port::outb;
use crate::kit::{CpuId, Lock};

const MAX_IOAPICS: usize = 16;
/// Registers of the window (82093AA data sheet).
const SELECT: usize = 0x00;
const DATA: usize = 0x10;
const VERSION: u32 = 1;
const FIRST_PIN: u32 = 0x10;
const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const LOW_ACTIVE: u64 = 1 << 13;

/// When a line asks for an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// When it rises.
    EdgeHigh,
    /// When it falls.
    EdgeLow,
    /// While it is high.
    LevelHigh,
    /// While it is low.
    LevelLow,
}

struct IoApic {
    window: Window,
    first_gsi: u32,
    pins: u32,
}

static IOAPICS: Lock<ArrayVec<IoApic, MAX_IOAPICS>> = Lock::new(ArrayVec::new_const());

impl IoApic {
    fn read(&self, register: u32) -> u32 {
        self.window.write32(SELECT, register);
        self.window.read32(DATA)
    }
    fn write(&self, register: u32, value: u32) {
        self.window.write32(SELECT, register);
        self.window.write32(DATA, value);
    }
    fn entry(&self, pin: u32) -> u64 {
        let low = u64::from(self.read(FIRST_PIN + 2 * pin));
        u64::from(self.read(FIRST_PIN + 2 * pin + 1)) << 32 | low
    }
    /// Masked in between, so that no half of an entry acts.
    fn set_entry(&self, pin: u32, entry: u64) {
        self.write(FIRST_PIN + 2 * pin, MASKED as u32);
        self.write(FIRST_PIN + 2 * pin + 1, (entry >> 32) as u32);
        self.write(FIRST_PIN + 2 * pin, entry as u32);
    }
}

/// Adds an I/O APIC, whose first pin is `first_gsi`; all its pins are masked.
pub fn add(window: Window, first_gsi: u32) {
    let mut ioapic = IoApic {
        window,
        first_gsi,
        pins: 0,
    };
    ioapic.pins = (ioapic.read(VERSION) >> 16 & 0xff) + 1;
    for pin in 0..ioapic.pins {
        ioapic.set_entry(pin, MASKED);
    }
    // A machine with more has its first ones; the others stay masked.
    let _ = IOAPICS.lock().try_push(ioapic);
}

fn with_pin<R>(gsi: u32, act: impl FnOnce(&IoApic, u32) -> R) -> Option<R> {
    let ioapics = IOAPICS.lock();
    let holds = |i: &&IoApic| gsi.checked_sub(i.first_gsi).is_some_and(|pin| pin < i.pins);
    let ioapic = ioapics.iter().find(holds)?;
    Some(act(ioapic, gsi - ioapic.first_gsi))
}

/// Sends line `gsi` as `vector` to `cpu`. Nothing if no I/O APIC has that line.
pub fn route(gsi: u32, vector: u8, cpu: CpuId, trigger: Trigger) -> Option<()> {
    let how = match trigger {
        Trigger::EdgeHigh => 0,
        Trigger::EdgeLow => LOW_ACTIVE,
        Trigger::LevelHigh => LEVEL,
        Trigger::LevelLow => LEVEL | LOW_ACTIVE,
    };
    let to = u64::from(super::lapic::id_of(cpu) & 0xff) << 56;
    with_pin(gsi, |ioapic, pin| {
        ioapic.set_entry(pin, u64::from(vector) | how | to)
    })
}

/// Stops line `gsi`.
pub fn mask(gsi: u32) -> Option<()> {
    with_pin(gsi, |ioapic, pin| {
        let entry = ioapic.entry(pin);
        ioapic.set_entry(pin, entry | MASKED);
    })
}

/// Lets line `gsi` through again, as it was routed.
pub fn unmask(gsi: u32) -> Option<()> {
    with_pin(gsi, |ioapic, pin| {
        let entry = ioapic.entry(pin);
        ioapic.set_entry(pin, entry & !MASKED);
    })
}

/// How many lines there are: one past the highest.
pub fn lines() -> u32 {
    IOAPICS
        .lock()
        .iter()
        .map(|i| i.first_gsi + i.pins)
        .max()
        .unwrap_or(0)
}

/// Masks everything at the old interrupt controllers, after moving their vectors out of the way of
/// the exceptions (spurious interrupts can't be masked).
pub fn silence_pics() {
    for (command, data, vector, wiring) in [(0x20, 0x21, 0x20, 4), (0xa0, 0xa1, 0x28, 2)] {
        outb(command, 0x11);
        outb(data, vector);
        outb(data, wiring);
        outb(data, 1);
        outb(data, 0xff);
    }
}
