//! Interrupts: each acknowledges and raises work; what it means is done on the way out.

use crate::arch::ipi::Vector;
use crate::arch::{lapic, tlb, work};

/// The interrupt `vector`.
pub fn handle(vector: u8) {
    const TIMER: u8 = Vector::Timer as u8;
    const KICK: u8 = Vector::Kick as u8;
    const FLUSH: u8 = Vector::TlbFlush as u8;
    const SERIAL: u8 = Vector::Serial as u8;
    const SPURIOUS: u8 = Vector::Spurious as u8;
    const ERROR: u8 = Vector::Error as u8;
    match vector {
        TIMER => work::raise_here(work::TIMER),
        KICK => {}
        FLUSH => tlb::answer(),
        SERIAL => work::raise_here(work::CONSOLE),
        // No acknowledgement: the APIC has none in service (APM vol. 2 §16.4.7).
        SPURIOUS => return,
        ERROR => log::warn!("APIC error {:#x}", lapic::take_errors()),
        other => log::warn!("interrupt {other:#x} has no handler"),
    }
    lapic::eoi();
}

/// An NMI that nobody asked for.
pub fn nmi() {
    log::warn!("NMI of unknown cause");
}
