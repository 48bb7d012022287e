//! The operations of a 64-bit guest that a 32-bit guest performs in another way or doesn't have.

#![expect(unsafe_code, reason = "runs instructions, reads page tables")]

use core::arch::{asm, global_asm};

use xenlike_rt::abi::arch_x86::{FLAT_KERNEL_CS64, FLAT_KERNEL_SS64, SEGBASE_FS};
use xenlike_rt::abi::hypercall;
use xenlike_rt::abi::xen::MMUEXT_PIN_L4_TABLE;
use xenlike_rt::paging::TABLE_FLAGS;
use xenlike_rt::start_info;

use crate::calls::call;
use crate::meter;
use crate::tables::table;
use crate::user::LOOPS;

pub use core::arch::x86_64::_rdtsc as rdtsc;

/// The kernel's stack selector.
pub const KERNEL_SS: u64 = FLAT_KERNEL_SS64 as u64;
/// The request that pins a root table.
pub const PIN_ROOT: u32 = MMUEXT_PIN_L4_TABLE;
/// A code selector that makes an iret frame return to the guest's kernel mode.
const KERNEL_CODE: u64 = (FLAT_KERNEL_CS64 & !3) as u64;
/// L4 slots that are reserved for the hypervisor (public header arch-x86/xen-x86_64.h).
const RESERVED: core::ops::Range<usize> = 256..272;
/// Model-specific register (AMD APM vol. 2 appendix A).
const FS_BASE: u32 = 0xc000_0100;

/// The stack pointer.
#[inline(always)]
pub fn stack_pointer() -> u64 {
    let stack_pointer: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) stack_pointer, options(nomem, nostack)) };
    stack_pointer
}

/// Measures set_segment_base.
pub fn segment_base() {
    let segment = u64::from(SEGBASE_FS);
    meter::measure("set_segment_base", || {
        call(hypercall::SET_SEGMENT_BASE, [segment, 0, 0, 0, 0]);
    });
}

/// Measures the write of a segment base by instruction.
pub fn write_fs_base() {
    meter::measure("wrmsr_fs_base", || {
        // SAFETY: the hypervisor emulates the write; nothing here uses FS.
        unsafe {
            asm!("wrmsr", in("ecx") FS_BASE, in("eax") 0, in("edx") 0, options(nomem, nostack));
        }
    });
}

/// Sets the entry that maps `address`. `flags` are `UVMF_*`.
#[inline(always)]
pub fn update_va_mapping(address: u64, entry: u64, flags: u64) {
    call(hypercall::UPDATE_VA_MAPPING, [address, entry, flags, 0, 0]);
}

/// Writes a descriptor at a machine address.
#[inline(always)]
pub fn update_descriptor(machine: u64, descriptor: u64) {
    call(hypercall::UPDATE_DESCRIPTOR, [machine, descriptor, 0, 0, 0]);
}

/// Stores a new value of a page-table entry of which only the low half changes.
///
/// # Safety
/// The caller is responsible for what the page tables map afterwards.
#[inline(always)]
pub unsafe fn store_entry(entry: *mut u64, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { entry.write_volatile(value) };
}

/// CPUID, leaf 1, by the forced-emulation prefix (arch-x86/xen.h, XEN_CPUID).
#[inline(always)]
pub fn cpuid() {
    // SAFETY: the prefix and cpuid change only these registers.
    unsafe {
        asm!("push rbx", ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e", "cpuid", "pop rbx",
            inout("eax") 1 => _, inout("ecx") 0 => _, out("edx") _);
    }
}

/// Reads from `address` by an instruction of two bytes, `mov al, [rax]`, which faults.
#[inline(always)]
pub fn read_at(address: u64) {
    // SAFETY: the read faults, and the handler continues after it with all registers restored.
    unsafe { asm!("mov al, [rax]", inout("rax") address => _) };
}

/// Raises #GP with error code 0 by an instruction of two bytes: reads from a non-canonical address.
#[inline(always)]
pub fn raise_gp() {
    read_at(1 << 63);
}

/// Returns by the iret hypercall to the next instruction, with events still masked.
pub fn iret() {
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

/// Makes a root table above the L1 table `leaf`.
pub fn tree(leaf: u64) -> u64 {
    let first = |index, below: u64| {
        if index == 0 {
            (below << 12) | TABLE_FLAGS
        } else {
            0
        }
    };
    (0..3).fold(leaf, |below, _| table(|index| first(index, below)))
}

/// Makes a root table with the kernel's mappings.
pub fn copy_of_root() -> u64 {
    let root = core::ptr::with_exposed_provenance::<u64>(start_info().pt_base as usize);
    table(|index| {
        // SAFETY: an entry of this domain's root table, which stays mapped read-only.
        let entry = unsafe { root.add(index).read_volatile() };
        if RESERVED.contains(&index) { 0 } else { entry }
    })
}

// Each process repeats its operation LOOPS times, and ends with the system call rax = 2.
global_asm!(
    r#"
    .pushsection .text.process, "ax", @progbits
    .balign 4096
    .global bench_calling
    bench_calling:
        mov ebx, {loops}
    2:  mov eax, 1
        syscall
        dec ebx
        jnz 2b
        mov eax, 2
        syscall
        ud2
    .balign 64
    bench_faulting:
        mov ebx, {loops}
        mov esi, 16
    2:  mov al, [rsi]
        dec ebx
        jnz 2b
        mov eax, 2
        syscall
        ud2
    .global bench_faulting_offset
    .set bench_faulting_offset, bench_faulting - bench_calling
    .balign 4096
    .popsection
    "#,
    loops = const LOOPS,
);
