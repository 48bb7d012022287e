//! Interrupts: each acknowledges and raises work; what it means is done on the way out.

use crate::kit::atomic::{AtomicU32, Ordering};

use guest_pv_abi::trace::TRC_HW_IRQ_HANDLED;

use crate::arch::frame::TrapFrame;
use crate::arch::ipi::Vector;
use crate::arch::microcode::meeting::MEETING;
use crate::arch::microcode::{self, Hardware};
use crate::arch::{halt, lapic, percpu, stop, time, tlb, work};
use crate::console::later;
use crate::domain::pirq;
use crate::trace;

/// The timer's.
pub extern "C" fn timer(_frame: &mut TrapFrame) {
    work::raise_here(work::TIMER);
    lapic::eoi();
}

/// Another CPU's, which has raised work here.
pub extern "C" fn kick(_frame: &mut TrapFrame) {
    lapic::eoi();
}

/// Another CPU's, which waits for this one to flush.
pub extern "C" fn flush(_frame: &mut TrapFrame) {
    tlb::answer();
    lapic::eoi();
}

/// Any other interrupt, by its vector.
pub fn handle(vector: u8) {
    const SERIAL: u8 = Vector::Serial as u8;
    const SPURIOUS: u8 = Vector::Spurious as u8;
    const ERROR: u8 = Vector::Error as u8;
    match vector {
        SERIAL => work::raise_here(work::CONSOLE),
        // No acknowledgement: the APIC has none in service (APM vol. 2 §16.4.7).
        SPURIOUS => return,
        ERROR => log::warn!("APIC error {:#x}", lapic::take_errors()),
        device => return from_device(device),
    }
    lapic::eoi();
}

/// A device's, for a domain: a level-triggered one is masked before it is acknowledged, and every one
/// acknowledged before the domain hears of it.
fn from_device(vector: u8) {
    let told = pirq::arrived(vector);
    lapic::eoi();
    let Some(told) = told else {
        return stray(vector);
    };
    let since = if trace::on() { time::tsc() } else { 0 };
    pirq::tell(&told);
    if let (true, Some(holder)) = (trace::on(), told.first()) {
        let data = [holder.pirq, since as u32, time::tsc() as u32];
        trace::record(TRC_HW_IRQ_HANDLED, &data);
    }
}

/// A vector that means nothing: a spurious one of the old controllers, or a message that domain 0 let
/// a device send. Said a few times only, because it may come often.
fn stray(vector: u8) {
    static SAID: AtomicU32 = AtomicU32::new(0);
    const MOST: u32 = 16;
    if SAID.fetch_add(1, Ordering::Relaxed) < MOST {
        log::warn!("interrupt {vector:#x} has no handler");
    }
}

/// An NMI: the end of the machine, an update of its microcode, or of unknown cause. It may have hit this CPU while it
/// held the console's lock.
pub extern "C" fn nmi(frame: &mut TrapFrame) {
    stop::stop_if_told();
    let pause = || {
        stop::stop_if_told();
        core::hint::spin_loop();
    };
    let load = || microcode::follow(&Hardware).is_ok();
    if !MEETING.attend(percpu::this_cpu(), load, pause) {
        later::unknown_nmi();
    }
    frame.rip = halt::past_sleep(frame.rip);
}
