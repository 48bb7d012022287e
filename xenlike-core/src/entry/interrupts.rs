//! Interrupts. The hypervisor's own interrupts raise work for the exit path. A device's interrupt is sent to its domains
//! here, after the EOI; a TLB flush is done at once.

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

/// The local APIC's timer.
pub extern "C" fn timer(_frame: &mut TrapFrame) {
    work::raise_here(work::TIMER);
    lapic::eoi();
}

/// Handles the interrupt of a CPU that has raised work for this one; the exit path does the rest.
pub extern "C" fn kick(_frame: &mut TrapFrame) {
    lapic::eoi();
}

/// An IPI of a CPU that waits until this one has flushed its TLB.
pub extern "C" fn flush(_frame: &mut TrapFrame) {
    tlb::answer();
    lapic::eoi();
}

/// Any other interrupt.
pub fn handle(vector: u8) {
    const SERIAL: u8 = Vector::Serial as u8;
    const SPURIOUS: u8 = Vector::Spurious as u8;
    const ERROR: u8 = Vector::Error as u8;
    match vector {
        SERIAL => work::raise_here(work::CONSOLE),
        // A spurious interrupt needs no EOI, because it isn't in service (APM vol. 2 §16.4.7).
        SPURIOUS => return,
        ERROR => log::warn!("APIC error {:#x}", lapic::take_errors()),
        device => return from_device(device),
    }
    lapic::eoi();
}

/// Handles a device's interrupt for domains. A level-triggered interrupt is masked before the EOI, because the
/// line stays asserted until the domain has served the device. The domains are notified after the EOI.
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

/// An interrupt without a handler: a spurious one of the old controllers, or a message that domain 0 let a device send.
/// Logged a few times only, because there may be many.
fn stray(vector: u8) {
    static LOGGED: AtomicU32 = AtomicU32::new(0);
    const MAX_LOGGED: u32 = 16;
    if LOGGED.fetch_add(1, Ordering::Relaxed) < MAX_LOGGED {
        log::warn!("interrupt {vector:#x} has no handler");
    }
}

/// An NMI: a CPU stops the machine or updates its microcode, or the cause is unknown. It may have interrupted this CPU while
/// it held the console's lock, so nothing is logged here.
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
