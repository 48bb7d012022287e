//! What a 32-bit guest has: the kernel in ring 1, user mode in ring 3, three levels of page tables (PAE), hypercalls by
//! `int 0x82`, which take a 64-bit value in two arguments.

#![expect(unsafe_code, reason = "makes hypercalls and reads registers")]

mod memory;
pub(crate) mod smp;
mod start;
pub(crate) mod traps;
pub(crate) mod user;

use core::arch::asm;
use core::mem::offset_of;

use guest_pv_abi::Errno;
use guest_pv_abi::arch_x86::ArchSharedInfo;
use guest_pv_abi::call::{hypercall2, hypercall4};
use guest_pv_abi::xen::SharedInfo;
use guest_pv_abi::{Long, hypercall};

use crate::hyper::Outcome;
use crate::tables::{PRESENT, TABLE_FLAGS};

pub(crate) use core::arch::x86 as isa;

/// Where frame 0 is mapped (`XEN_ELFNOTE_VIRT_BASE`); the build script has the same number for the linker.
pub(crate) const VIRT_BASE: u64 = 0xc000_0000;
/// Number of frames between `VIRT_BASE` and the windows.
pub(crate) const DIRECT_FRAMES: u64 = (WINDOWS_START - VIRT_BASE) >> 12;
/// Address range of windows.
pub(crate) const WINDOWS_START: u64 = 0xe000_0000;
pub(crate) const WINDOWS_END: u64 = 0xf000_0000;
/// Address range of the heap's large blocks, below the hypervisor's range.
pub(crate) const LARGE_START: u64 = 0xf000_0000;
pub(crate) const LARGE_END: u64 = 0xf400_0000;

/// Level of the root table.
pub(crate) const ROOT_LEVEL: u32 = 3;
/// The user bit in the kernel's own entries. The CPU honours it, as the kernel runs in ring 1.
pub(crate) const KERNEL_USER: u64 = 0;
/// Flags of an entry in a table of `level` that names a lower table. An L3 entry of PAE has no rights.
pub(crate) const fn table_flags(level: u32) -> u64 {
    if level == ROOT_LEVEL {
        PRESENT
    } else {
        TABLE_FLAGS
    }
}

/// The value of an `unsigned long` of the ABI.
#[must_use]
pub const fn from_long(long: Long) -> u64 {
    long as u64
}

/// The stack pointer.
pub(crate) fn stack_pointer() -> usize {
    let value: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, esp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The high half of the wall clock's seconds.
pub(crate) fn wc_sec_hi(shared: *const SharedInfo) -> *const u32 {
    let offset = offset_of!(SharedInfo, arch) + offset_of!(ArchSharedInfo, wc_sec_hi);
    shared.wrapping_byte_add(offset).cast()
}

/// update_va_mapping.
///
/// # Safety
/// The caller is responsible for what the address maps afterwards.
pub(crate) unsafe fn update_va_mapping(address: u64, entry: u64, flags: u64) -> Outcome {
    let (low, high) = (entry as u32, (entry >> 32) as u32);
    // SAFETY: the caller's promise.
    Errno::check(unsafe {
        hypercall4(
            hypercall::UPDATE_VA_MAPPING,
            address as u32,
            low,
            high,
            flags as u32,
        )
    })
}

/// update_descriptor.
///
/// # Safety
/// The caller is responsible for the use of the descriptor.
pub(crate) unsafe fn update_descriptor(machine: u64, descriptor: u64) -> Outcome {
    // SAFETY: the caller's promise.
    Errno::check(unsafe {
        hypercall4(
            hypercall::UPDATE_DESCRIPTOR,
            machine as u32,
            (machine >> 32) as u32,
            descriptor as u32,
            (descriptor >> 32) as u32,
        )
    })
}

/// set_timer_op.
pub(crate) fn set_timer(system_time_ns: u64) -> Outcome {
    let (low, high) = (system_time_ns as u32, (system_time_ns >> 32) as u32);
    // SAFETY: no pointer is passed.
    Errno::check(unsafe { hypercall2(hypercall::SET_TIMER_OP, low, high) })
}
