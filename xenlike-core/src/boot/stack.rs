//! Two stacks in one block: the boot CPU's first stack, and the stack on which a panic runs.
//!
//! The block has the shape of a CPU's block ([`crate::arch::percpu`]), so masking RSP finds a [`CpuInfo`] from any of
//! its stacks. Its guard pages are mapped neither by the boot tables nor by the real ones.
//!
//! | page | holds |
//! |---|---|
//! | 1–5 | the stack of a panic |
//! | 7 | the stack of an exception while the boot CPU is on its first stack |
//! | 9–15 | the boot CPU's first stack, and [`CpuInfo`] |
//!
//! A panic leaves the stack on which it was raised, because an exception's own stack is too small for the report, and
//! the main stack may be exhausted.
#![expect(unsafe_code, reason = "lays out stacks and switches to one")]

use core::cell::UnsafeCell;

use super::tables;
use crate::arch::desc::{self, GdtPage, RESERVED_GDT_BYTES, Tss};
use crate::arch::percpu::{self, BLOCK_BYTES, CpuInfo};
use crate::kit::atomic::AtomicU64;
use crate::kit::{CpuId, PAGE_SIZE, Vaddr};

/// The memory of the block.
#[repr(C, align(65536))]
pub struct Block(UnsafeCell<[u8; BLOCK_BYTES]>);

// SAFETY: memory for stacks. Only the boot CPU uses the first stack, only the CPU that panics the other one.
unsafe impl Sync for Block {}

/// All zero, so its `CpuInfo` is that of CPU 0.
pub static BLOCK: Block = Block(UnsafeCell::new([0; BLOCK_BYTES]));

const GUARD_PAGES: [usize; 3] = [0, 6, 8];
const PANIC_STACK_END: usize = 6 * PAGE_SIZE;
const EXCEPTION_STACK_END: usize = 8 * PAGE_SIZE;
const INFO: usize = BLOCK_BYTES - size_of::<CpuInfo>();

/// The address of the block.
pub fn base() -> Vaddr {
    Vaddr(BLOCK.0.get() as u64)
}

/// The guard pages, which are not mapped.
pub fn guards() -> [Vaddr; 3] {
    GUARD_PAGES.map(|page| Vaddr(base().0 + (page * PAGE_SIZE) as u64))
}

/// Aligned so that no page boundary is inside it.
#[repr(align(128))]
struct BootTss(UnsafeCell<Tss>);
// SAFETY: only the boot CPU writes it, before it loads it.
unsafe impl Sync for BootTss {}

/// Unmaps the guard pages, and gives exceptions a stack. The first step of the boot, called once.
pub fn guard() {
    static GDT: GdtPage = [const { AtomicU64::new(0) }; 512];
    static TSS: BootTss = BootTss(UnsafeCell::new(Tss::new()));
    tables::unmap(guards());
    // SAFETY: there is no other reference to the TSS. The block has the shape of a CPU's block, and the GDT is filled.
    unsafe {
        percpu::set_block(CpuId(0), base());
        let tss = &mut *TSS.0.get();
        tss.set_ist([Vaddr(base().0 + EXCEPTION_STACK_END as u64); 4]);
        desc::fill_gdt(
            &GDT,
            guest_pv_abi::Width::Wide,
            0,
            Vaddr(TSS.0.get() as u64),
        );
        desc::load_gdt(Vaddr(GDT.as_ptr() as u64 - RESERVED_GDT_BYTES));
        desc::reload_segments();
    }
}

/// Calls `report` with `subject` on the stack for panics. The stack that it leaves is not changed.
///
/// # Safety
/// Called once, by the CPU that ends the machine.
pub unsafe fn switch_for_panic<T>(subject: &T, report: extern "sysv64" fn(&T) -> !) -> ! {
    let info = CpuInfo::new(percpu::this_cpu());
    // SAFETY: the boot CPU has left its first stack for good, or it is this CPU, and then the write changes nothing.
    // The panic stack is mapped and empty, and `report` doesn't return.
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

/// Logs how deep the first stack has been, while it is in use.
pub fn report() {
    if let Some(used) = percpu::stack_used(CpuId(0)) {
        log::debug!(
            "boot stack: {used} of {} bytes used",
            percpu::MAIN_STACK_BYTES
        );
    }
}
