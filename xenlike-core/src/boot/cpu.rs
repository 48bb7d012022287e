//! What each CPU needs before it can take a trap: its block with the stacks, its GDT pages, its TSS.
#![expect(unsafe_code, reason = "lays out stacks and loads descriptor tables")]

use guest_pv_abi::Width;

use super::memory::{map_own, own_frame};
use crate::arch::desc::{self, GdtPage, RESERVED_GDT_BYTES, Tss};
use crate::arch::percpu::{self, BLOCK_BYTES, CpuInfo, Ist, MAPPED_PAGES};
use crate::arch::{paging, tlb};
use crate::kit::{CpuId, PAGE_SIZE, Vaddr};
use crate::mm::layout;

/// The address of the block of `cpu`.
pub fn block(cpu: CpuId) -> Vaddr {
    Vaddr(layout::DEVICES + (cpu.index() * BLOCK_BYTES) as u64)
}

/// The initial stack pointer of `cpu`'s main stack.
pub fn stack_top(cpu: CpuId) -> Option<Vaddr> {
    let info = percpu::info_of(cpu)?;
    Some(Vaddr(info.frame.get() as u64 & !15))
}

/// Makes the block, GDT pages and TSS of `cpu`; `None` if memory is short.
pub fn prepare(cpu: CpuId) -> Option<()> {
    let base = block(cpu);
    for page in MAPPED_PAGES {
        let (frame, words) = own_frame()?;
        // SAFETY: a fresh frame to which there is no other reference, used as an array of words.
        let words = unsafe { &mut *words.cast::<[u64; PAGE_SIZE / 8]>() };
        words.fill(percpu::UNUSED);
        let at = Vaddr(base.0 + (page * PAGE_SIZE) as u64);
        map_own(at, frame.maddr(), PAGE_SIZE as u64, paging::DATA)?;
    }
    let info = base.0 + (BLOCK_BYTES - size_of::<CpuInfo>()) as u64;
    // SAFETY: the last page of the block was mapped above, and there is no other reference to it yet.
    unsafe {
        (info as *mut CpuInfo).write(CpuInfo::new(cpu));
        percpu::set_block(cpu, base);
    }
    let (_, tss) = own_frame()?;
    // SAFETY: a fresh frame that is never freed, large enough and aligned; there is no other reference.
    let tss = unsafe {
        tss.cast::<Tss>().write(Tss::new());
        &mut *tss.cast::<Tss>()
    };
    tss.set_rsp0(percpu::frame_end(cpu)?);
    tss.set_ist(Ist::ALL.map(|ist| Vaddr(base.0 + ist.top() as u64)));
    for width in [Width::Wide, Width::Narrow] {
        let (frame, gdt) = own_frame()?;
        // SAFETY: a fresh, zeroed frame that is never freed; there is no other reference.
        let gdt = unsafe { &*gdt.cast::<GdtPage>() };
        desc::fill_gdt(gdt, width, cpu.0, Vaddr(&raw const *tss as u64));
        desc::set_gdt(cpu, width, gdt, frame);
    }
    desc::set_cpu_tss(cpu, tss);
    Some(())
}

/// Loads the GDT, segments and TSS of this CPU. The CPU already runs on its own stack.
pub fn load(cpu: CpuId) {
    if let Some(gdt) = desc::gdt(cpu, Width::Wide) {
        let base = Vaddr(gdt.as_ptr() as u64 - RESERVED_GDT_BYTES);
        // SAFETY: `prepare` filled the page, and the core's selectors are relative to `base`.
        unsafe {
            desc::load_gdt(base);
            desc::reload_segments();
        }
    }
    tlb::flush_local();
}

/// Continues with `next` on the main stack of `cpu`.
pub fn switch_stack(cpu: CpuId, next: extern "sysv64" fn() -> !) -> ! {
    let top = stack_top(cpu).unwrap_or_default();
    // SAFETY: the stack is mapped and empty; nothing on the old stack is needed any more.
    unsafe {
        core::arch::asm!(
            "mov rsp, {top}",
            "xor ebp, ebp",
            "call {next}",
            "ud2",
            top = in(reg) top.0,
            next = in(reg) next,
            options(noreturn),
        )
    }
}
