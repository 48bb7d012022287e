//! The operations of a 32-bit guest that a 64-bit guest performs in another way. It has no segment bases.

#![expect(unsafe_code, reason = "runs instructions, reads page tables")]

use core::arch::{asm, global_asm};

use xenlike_rt::abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, HYPERCALL_VECTOR, VIRT_START};
use xenlike_rt::abi::hypercall;
use xenlike_rt::abi::xen::MMUEXT_PIN_L3_TABLE;
use xenlike_rt::paging::{FRAME_MASK, PRESENT, TABLE_FLAGS};
use xenlike_rt::{memory, start_info};

use crate::calls::call;
use crate::tables::table;
use crate::user::LOOPS;

pub use core::arch::x86::_rdtsc as rdtsc;

/// The kernel's stack selector.
pub const KERNEL_SS: u64 = FLAT_KERNEL_SS as u64;
/// The request that pins a root table.
pub const PIN_ROOT: u32 = MMUEXT_PIN_L3_TABLE;
/// The entry of a root table that names the L2 table of the kernel and the hypervisor.
const KERNEL_SLOT: usize = 3;
/// Entries of that L2 table below the hypervisor's.
const KERNEL_ENTRIES: usize = (VIRT_START as usize >> 21) & 511;

/// The stack pointer.
#[inline(always)]
pub fn stack_pointer() -> u64 {
    let stack_pointer: u32;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, esp", out(reg) stack_pointer, options(nomem, nostack)) };
    stack_pointer.into()
}

/// There is no such hypercall.
pub fn segment_base() {}

/// There is no such register.
pub fn write_fs_base() {}

/// Sets the entry that maps `address`. `flags` are `UVMF_*`.
#[inline(always)]
pub fn update_va_mapping(address: u64, entry: u64, flags: u64) {
    call(
        hypercall::UPDATE_VA_MAPPING,
        [address, entry, entry >> 32, flags, 0],
    );
}

/// Writes a descriptor at a machine address.
#[inline(always)]
pub fn update_descriptor(machine: u64, descriptor: u64) {
    call(
        hypercall::UPDATE_DESCRIPTOR,
        [machine, machine >> 32, descriptor, descriptor >> 32, 0],
    );
}

/// Stores a new value of a page-table entry of which only the low half changes, by a store to that half.
///
/// # Safety
/// The caller is responsible for what the page tables map afterwards.
#[inline(always)]
pub unsafe fn store_entry(entry: *mut u64, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { entry.cast::<u32>().write_volatile(value as u32) };
}

/// CPUID, leaf 1, by the forced-emulation prefix (arch-x86/xen.h, XEN_CPUID).
#[inline(always)]
pub fn cpuid() {
    // SAFETY: the prefix and cpuid change only these registers.
    unsafe {
        asm!("push ebx", ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e", "cpuid", "pop ebx",
            inout("eax") 1 => _, inout("ecx") 0 => _, out("edx") _);
    }
}

/// Reads from `address` by an instruction of two bytes, `mov al, [eax]`, which faults.
#[inline(always)]
pub fn read_at(address: u64) {
    // SAFETY: the read faults, and the handler continues after it with all registers restored.
    unsafe { asm!("mov al, [eax]", inout("eax") address as u32 => _) };
}

/// Raises #GP with error code 0 by an instruction of two bytes: loads a null stack selector.
#[inline(always)]
pub fn raise_gp() {
    // SAFETY: the load faults, and the handler continues after it with all registers restored.
    unsafe { asm!("mov ss, eax", in("eax") 0) };
}

/// Returns by the iret hypercall to the next instruction, with events still masked.
pub fn iret() {
    // SAFETY: the frame has the layout that the call expects (public header arch-x86/xen-x86_32.h), with the next
    // instruction and the kernel's own selector.
    unsafe {
        asm!(
            "push 2",
            "push {cs}",
            "lea eax, [2f]",
            "push eax",
            "push 0",
            "mov eax, {iret}",
            "int {vector}",
            "2:",
            cs = const FLAT_KERNEL_CS,
            iret = const hypercall::IRET,
            vector = const HYPERCALL_VECTOR,
            out("eax") _,
        );
    }
}

/// Makes a root table above the L1 table `leaf`. Its last entry must be present.
pub fn tree(leaf: u64) -> u64 {
    let middle = table(|index| {
        if index == 0 {
            (leaf << 12) | TABLE_FLAGS
        } else {
            0
        }
    });
    table(|index| {
        if index == KERNEL_SLOT {
            (middle << 12) | PRESENT
        } else {
            0
        }
    })
}

/// Makes a root table with the kernel's mappings. Its last L2 table is a copy, as it may have no other place.
pub fn copy_of_root() -> u64 {
    let root = u64::from(start_info().pt_base);
    let middle = memory::direct(memory::pfn_of_mfn(
        (read(root, KERNEL_SLOT) & FRAME_MASK) >> 12,
    ));
    let copy = table(|index| {
        if index < KERNEL_ENTRIES {
            read(middle, index)
        } else {
            0
        }
    });
    table(|index| match index {
        KERNEL_SLOT => (copy << 12) | PRESENT,
        0..KERNEL_SLOT if read(root, index) & PRESENT != 0 => {
            read(root, index) & FRAME_MASK | PRESENT
        }
        _ => 0,
    })
}

/// Reads an entry of this domain's table at `table`.
fn read(table: u64, index: usize) -> u64 {
    let table = core::ptr::with_exposed_provenance::<u64>(table as usize);
    // SAFETY: callers pass tables in the direct mapping, which stay mapped read-only, and indices below 512.
    unsafe { table.add(index).read_volatile() }
}

// Each process repeats its operation LOOPS times, and ends with the system call eax = 2. System calls are by `int 0x80`,
// which CPUs of all vendors have.
global_asm!(
    r#"
    .pushsection .text.process, "ax", @progbits
    .balign 4096
    .global bench_calling
    bench_calling:
        mov ebx, {loops}
    2:  mov eax, 1
        int 0x80
        dec ebx
        jnz 2b
        mov eax, 2
        int 0x80
        ud2
    .balign 64
    bench_faulting:
        mov ebx, {loops}
        mov esi, 16
    2:  mov al, [esi]
        dec ebx
        jnz 2b
        mov eax, 2
        int 0x80
        ud2
    .global bench_faulting_offset
    .set bench_faulting_offset, bench_faulting - bench_calling
    .balign 4096
    .popsection
    "#,
    loops = const LOOPS,
);
