//! Exceptions of the guest kernel, with bounce, handler and return; the iret hypercall alone.

#![expect(unsafe_code, reason = "runs instructions that fault")]

use core::arch::asm;

use xenlike_rt::abi::arch_x86::{FLAT_KERNEL_CS64, FLAT_KERNEL_SS64};
use xenlike_rt::abi::hypercall;
use xenlike_rt::traps::{self, TrapFrame};

use crate::meter;

/// A code selector that makes an iret frame return to the guest's kernel mode.
const KERNEL_CODE: u64 = (FLAT_KERNEL_CS64 & !3) as u64;

/// Skips the two-byte instruction that faulted.
pub fn skip_two(frame: &mut TrapFrame) {
    frame.rip = frame.rip.wrapping_add(2);
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
    meter::measure("page_fault_bounce", || read_at(16));
    // A non-canonical address.
    meter::measure("gp_bounce", || read_at(1 << 63));
    // SAFETY: as above.
    meter::measure("int3_bounce", || unsafe { asm!("int3") });
    traps::on_syscall(nothing);
    // SAFETY: the gate's handler returns after the instruction, with all registers restored.
    meter::measure("int_n_bounce", || unsafe { asm!("int 0x80") });
    meter::measure("iret", iret);
}

/// `mov al, [rax]` is two bytes long; al is clobbered.
fn read_at(address: u64) {
    // SAFETY: the read faults, and the handler continues after it with all registers restored.
    unsafe { asm!("mov al, [rax]", inout("rax") address => _) };
}

/// Returns by the iret hypercall to the next instruction, with events still masked.
fn iret() {
    // SAFETY: the frame has the layout that the call expects (public header arch-x86/xen-x86_64.h), with this stack,
    // the next instruction and the kernel's own selectors.
    unsafe {
        asm!(
            "mov rdx, rsp",
            "push {ss}",
            "push rdx",
            "push 2",
            "push {cs}",
            "lea rax, [rip + 2f]",
            "push rax",
            "push 0",
            "push 0",
            "push 0",
            "push 0",
            "mov eax, {iret}",
            "syscall",
            "2:",
            ss = const FLAT_KERNEL_SS64,
            cs = const KERNEL_CODE,
            iret = const hypercall::IRET,
            out("rax") _, out("rcx") _, out("rdx") _, out("r11") _,
        );
    }
}
