//! IRET could not load the frame that the guest asked for: what the machine raised in ring 0 is the guest's
//! own exception, at the frame's address, as on Xen.

use crate::kit::atomic::Ordering;

use super::current::with_current;
use super::page_fault;
use super::stubs::iret_to_guest;
use super::traps::{inject, vector};
use crate::arch::frame::TrapFrame;
use crate::arch::percpu;

/// The words of [`percpu::CpuInfo::words`] that hold the exception, its vector above its error code, and CR2.
const EXCEPTION: usize = 1;
const ADDRESS: usize = 2;

/// Keeps what `frame`, of a trap in ring 0, says, if that was at the IRET to the guest.
pub fn keep(frame: &TrapFrame, address: u64) {
    if frame.rip != &raw const iret_to_guest as u64 {
        return;
    }
    let words = &percpu::info().words;
    let exception = u64::from(frame.vector) << 32 | u64::from(frame.error);
    words[EXCEPTION].store(exception, Ordering::Relaxed);
    words[ADDRESS].store(address, Ordering::Relaxed);
}

/// Gives it to the guest, whose registers `frame` holds again.
pub extern "C" fn handle(frame: &mut TrapFrame) {
    let words = &percpu::info().words;
    let exception = words[EXCEPTION].load(Ordering::Relaxed);
    let address = words[ADDRESS].load(Ordering::Relaxed);
    let (number, error) = ((exception >> 32) as u8, exception as u32);
    (frame.vector, frame.error) = (u32::from(number), error);
    with_current(frame, |ctx| match number {
        vector::PF => page_fault::mend(ctx, address),
        _ => inject(ctx, number),
    });
}
