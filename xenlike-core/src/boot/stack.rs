//! Two stacks in one block: the boot CPU's first, and the one on which a panic runs.
//!
//! The block is shaped like a CPU's block ([`crate::arch::percpu`]), so masking rsp finds a [`CpuInfo`] from any of its
//! stacks. Its guard pages are not mapped, neither by the boot tables nor by the real ones.
//!
//! | page | holds |
//! |---|---|
//! | 1–5 | the stack of a panic |
//! | 7 | the stack of an exception while the boot CPU is on its first stack |
//! | 9–15 | the boot CPU's first stack, and [`CpuInfo`] |
//!
//! A panic leaves the stack that it hit on, because an exception's own stack is too small for the report, and the main
//! stack may be used up.
#![expect(unsafe_code, reason = "lays out stacks and switches to one")]

use core::cell::UnsafeCell;

use super::tables;
use crate::arch::desc::{self, GdtPage, RESERVED_GDT_BYTES, Tss};
use crate::arch::percpu::{self, BLOCK_BYTES, CpuInfo};
use crate::kit::atomic::AtomicU64;
use crate::kit::{CpuId, PAGE_SIZE, Vaddr};

/// The block.
#[repr(C, align(65536))]
pub struct Block(UnsafeCell<[u8; BLOCK_BYTES]>);

// SAFETY: memory for stacks. The boot CPU alone uses the first stack, the one CPU that panics the other.
unsafe impl Sync for Block {}

/// All zero: its `CpuInfo` is CPU 0's.
pub static BLOCK: Block = Block(UnsafeCell::new([0; BLOCK_BYTES]));

const GUARD_PAGES: [usize; 3] = [0, 6, 8];
const PANIC_STACK_END: usize = 6 * PAGE_SIZE;
const EXCEPTION_STACK_END: usize = 8 * PAGE_SIZE;
const INFO: usize = BLOCK_BYTES - size_of::<CpuInfo>();

/// Where the block starts.
pub fn base() -> Vaddr {
    Vaddr(BLOCK.0.get() as u64)
}

/// The pages that are not mapped.
pub fn guards() -> [Vaddr; 3] {
    GUARD_PAGES.map(|page| Vaddr(base().0 + (page * PAGE_SIZE) as u64))
}

struct BootTss(UnsafeCell<Tss>);
// SAFETY: the boot CPU alone writes it, before it loads it.
unsafe impl Sync for BootTss {}

/// Takes the guard pages away, and gives exceptions a stack. Call once, first of all.
pub fn guard() {
    static GDT: GdtPage = [const { AtomicU64::new(0) }; 512];
    static TSS: BootTss = BootTss(UnsafeCell::new(Tss::new()));
    tables::unmap(guards());
    // SAFETY: no other reference to the TSS exists. The block has the shape of a CPU's block, and the GDT is filled.
    unsafe {
        percpu::set_block(CpuId(0), base());
        let tss = &mut *TSS.0.get();
        tss.set_ist([Vaddr(base().0 + EXCEPTION_STACK_END as u64); 4]);
        desc::fill_gdt(&GDT, 0, Vaddr(TSS.0.get() as u64));
        desc::load_gdt(Vaddr(GDT.as_ptr() as u64 - RESERVED_GDT_BYTES));
        desc::reload_segments();
    }
}

/// Calls `report` with `subject` on the stack for panics. The stack that it leaves stays as it is.
///
/// # Safety
/// Call once, by the one CPU that ends the machine.
pub unsafe fn switch_for_panic<T>(subject: &T, report: extern "sysv64" fn(&T) -> !) -> ! {
    let info = CpuInfo::new(percpu::this_cpu());
    // SAFETY: the boot CPU has left its first stack for good, or is this CPU: then the words are the same.
    // The stack is mapped, empty, and nothing returns from it.
    unsafe {
        ((base().0 as usize + INFO) as *mut CpuInfo).write(info);
        core::arch::asm!(
            "mov rsp, {end}",
            "xor ebp, ebp",
            "call {report}",
            "ud2",
            end = in(reg) base().0 + PANIC_STACK_END as u64,
            report = in(reg) report,
            in("rdi") subject,
            options(noreturn),
        )
    }
}

/// Says how deep the first stack has been, while it is in use.
pub fn report() {
    if let Some(used) = percpu::stack_used(CpuId(0)) {
        log::debug!(
            "boot stack: {used} of {} bytes used",
            percpu::MAIN_STACK_BYTES
        );
    }
}
