//! What a 64-bit guest has: kernel and user mode in ring 3, four levels of page tables, hypercalls by `syscall`.

#![expect(unsafe_code, reason = "makes hypercalls and reads registers")]

pub(crate) mod smp;
mod start;
pub(crate) mod traps;
pub(crate) mod user;

use core::arch::asm;

use guest_pv_abi::Errno;
use guest_pv_abi::call::{hypercall1, hypercall2, hypercall3};
use guest_pv_abi::xen::SharedInfo;
use guest_pv_abi::{Long, hypercall};

use crate::hyper::Outcome;

pub(crate) use core::arch::x86_64 as isa;

/// Where frame 0 is mapped (`XEN_ELFNOTE_VIRT_BASE`); the build script has the same number for the linker.
pub(crate) const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
/// Number of frames between `VIRT_BASE` and the end of the address space, without the last L1 table's reach.
pub(crate) const DIRECT_FRAMES: u64 = (1 << 19) - 512;
/// Address range of windows: L4 slot 273, which Xen's ABI leaves to the kernel.
pub(crate) const WINDOWS_START: u64 = 0xffff_8880_0000_0000;
pub(crate) const WINDOWS_END: u64 = 0xffff_8900_0000_0000;
/// Address range of the heap's large blocks: the beginning of L4 slot 274.
pub(crate) const LARGE_START: u64 = 0xffff_8900_0000_0000;
pub(crate) const LARGE_END: u64 = LARGE_START + (16 << 30);

/// Level of the root table.
pub(crate) const ROOT_LEVEL: u32 = 4;
/// The user bit in the kernel's own entries. The hypervisor sets it in all entries of a 64-bit domain.
pub(crate) const KERNEL_USER: u64 = crate::tables::USER;
/// Flags of an entry in a table of `level` that names a lower table.
pub(crate) const fn table_flags(_level: u32) -> u64 {
    crate::tables::TABLE_FLAGS
}

/// The value of an `unsigned long` of the ABI.
#[must_use]
pub const fn from_long(long: Long) -> u64 {
    long
}

/// The stack pointer.
pub(crate) fn stack_pointer() -> usize {
    let value: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The high half of the wall clock's seconds.
pub(crate) fn wc_sec_hi(shared: *const SharedInfo) -> *const u32 {
    shared
        .wrapping_byte_add(core::mem::offset_of!(SharedInfo, wc_sec_hi))
        .cast()
}

/// update_va_mapping.
///
/// # Safety
/// The caller is responsible for what the address maps afterwards.
pub(crate) unsafe fn update_va_mapping(address: u64, entry: u64, flags: u64) -> Outcome {
    // SAFETY: the caller's promise.
    Errno::check(unsafe { hypercall3(hypercall::UPDATE_VA_MAPPING, address, entry, flags) })
}

/// update_descriptor.
///
/// # Safety
/// The caller is responsible for the use of the descriptor.
pub(crate) unsafe fn update_descriptor(machine: u64, descriptor: u64) -> Outcome {
    // SAFETY: the caller's promise.
    Errno::check(unsafe { hypercall2(hypercall::UPDATE_DESCRIPTOR, machine, descriptor) })
}

/// set_timer_op.
pub(crate) fn set_timer(system_time_ns: u64) -> Outcome {
    // SAFETY: no pointer is passed.
    Errno::check(unsafe { hypercall1(hypercall::SET_TIMER_OP, system_time_ns) })
}
