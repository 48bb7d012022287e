//! Exceptions of the guest kernel, with bounce, handler and return; the iret hypercall alone.

#![expect(unsafe_code, reason = "runs instructions that fault")]

use core::arch::asm;

use xenlike_rt::traps::{self, TrapFrame};

use crate::{meter, width};

/// Skips the two-byte instruction that faulted.
pub fn skip_two(frame: &mut TrapFrame) {
    frame.resume_at(frame.instruction().wrapping_add(2));
}

fn nothing(_: &mut TrapFrame) {}

/// Measures all rows of this module.
pub fn measure() {
    traps::on(traps::INVALID_OPCODE, skip_two);
    traps::on(traps::PAGE_FAULT, skip_two);
    traps::on(traps::GENERAL_PROTECTION, skip_two);
    traps::on(traps::BREAKPOINT, nothing);
    // SAFETY: each of these faults, and the handler continues after it with all registers restored.
    meter::measure("ud2_bounce", || unsafe { asm!("ud2") });
    meter::measure("page_fault_bounce", || width::read_at(16));
    meter::measure("gp_bounce", width::raise_gp);
    // SAFETY: as above.
    meter::measure("int3_bounce", || unsafe { asm!("int3") });
    traps::on_syscall(nothing);
    // SAFETY: the gate's handler returns after the instruction, with all registers restored.
    meter::measure("int_n_bounce", || unsafe { asm!("int 0x80") });
    meter::measure("iret", width::iret);
}
