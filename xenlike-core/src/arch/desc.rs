//! Segment descriptors, TSS and IDT: their types, the public flat selectors, and loading them.

use crate::kit::atomic::{AtomicU64, Ordering};

use crate::kit::cell::PerCpu;
use crate::kit::{CpuId, MAX_CPUS, Mfn, Vaddr};

/// The core's own GDT page starts at this offset of every GDT (entry 7168: FIRST_RESERVED_GDT_BYTE).
pub const RESERVED_GDT_BYTES: u64 = 14 * 4096;
/// The limit of every GDT that is loaded: up to the end of the core's page.
pub const GDT_LIMIT: u16 = 0xefff;
/// Ring-0 64-bit code.
pub const HYPERVISOR_CS: u16 = 0xe008;
/// Ring-0 data.
pub const HYPERVISOR_DS: u16 = 0xe010;
/// Ring-3 32-bit code (FLAT_RING3_CS32 in arch-x86/xen-x86_64.h).
pub const FLAT_RING3_CS32: u16 = 0xe023;
/// Ring-3 data and stack (FLAT_RING3_SS64).
pub const FLAT_RING3_SS: u16 = 0xe02b;
/// Ring-3 64-bit code (FLAT_RING3_CS64).
pub const FLAT_RING3_CS64: u16 = 0xe033;
/// The CPU's TSS.
pub const TSS_SELECTOR: u16 = 0xe040;
/// The current vCPU's LDT.
pub const LDT_SELECTOR: u16 = 0xe050;
/// A segment whose limit is the CPU's number, as Xen has it.
pub const CPU_NUMBER_SELECTOR: u16 = 0xe063;

/// A page of descriptors. Atomic words: the CPU reads them while others are being written.
pub type GdtPage = [AtomicU64; 512];

/// The flat descriptors, by entry of the page. Accessed bits are set: the page may be read-only.
const FLAT: [(usize, u64); 5] = [
    (1, 0x00af_9b00_0000_ffff),
    (2, 0x00cf_9300_0000_ffff),
    (4, 0x00cf_fb00_0000_ffff),
    (5, 0x00cf_f300_0000_ffff),
    (6, 0x00af_fb00_0000_ffff),
];
const TSS_ENTRY: usize = 8;
const LDT_ENTRY: usize = 10;
const CPU_NUMBER_ENTRY: usize = 12;

fn put(page: &GdtPage, entry: usize, value: u64) {
    if let Some(slot) = page.get(entry) {
        slot.store(value, Ordering::Relaxed);
    }
}

/// A system descriptor's two words (APM vol. 2 §4.8.3): `kind` 2 is an LDT, 9 a free TSS.
fn system(base: Vaddr, limit: u32, kind: u64) -> (u64, u64) {
    let (base, limit) = (base.0, u64::from(limit));
    let low = limit & 0xffff
        | (base & 0xff_ffff) << 16
        | (kind | 0x80) << 40
        | (limit >> 16 & 0xf) << 48
        | (base >> 24 & 0xff) << 56;
    (low, base >> 32)
}

/// Fills a GDT page for the CPU with this number and TSS.
pub fn fill_gdt(page: &GdtPage, cpu: u32, tss: Vaddr) {
    for (entry, value) in FLAT {
        put(page, entry, value);
    }
    set_tss(page, tss);
    put(
        page,
        CPU_NUMBER_ENTRY,
        0x0000_f100_0000_0000 | u64::from(cpu & 0xffff),
    );
}

/// Writes the TSS descriptor, not busy.
pub fn set_tss(page: &GdtPage, tss: Vaddr) {
    let (low, high) = system(tss, size_of::<Tss>() as u32 - 1, 9);
    put(page, TSS_ENTRY, low);
    put(page, TSS_ENTRY + 1, high);
}

/// Writes the LDT descriptor for `entries` 8-byte entries at `base`; none makes it absent.
pub fn set_ldt(page: &GdtPage, base: Vaddr, entries: u32) {
    let (low, high) = match entries {
        0 => (0, 0),
        n => system(base, n.saturating_mul(8) - 1, 2),
    };
    put(page, LDT_ENTRY, low);
    put(page, LDT_ENTRY + 1, high);
}

/// Bytes of the I/O permission map: a bit a port, and one byte of ones behind (SDM vol. 1 §19.5.2).
pub const IO_MAP_BYTES: usize = 8192;
/// `Tss::io_map_base` that opens the ports whose bit in the map is clear.
pub const IO_MAP_ON: u16 = 104;
/// `Tss::io_map_base` that opens none.
pub const IO_MAP_OFF: u16 = 0xffff;

/// The 64-bit task state segment with its I/O permission map (APM vol. 2 §12.2.5).
#[repr(C, packed(4))]
pub struct Tss {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map_base: u16,
    io_map: [u8; IO_MAP_BYTES],
    io_map_end: [u8; 4],
}

const _: () = assert!(core::mem::offset_of!(Tss, io_map) == IO_MAP_ON as usize);

impl Tss {
    /// All ports closed, no stacks.
    pub const fn new() -> Self {
        Self {
            reserved0: 0,
            rsp: [0; 3],
            reserved1: 0,
            ist: [0; 7],
            reserved2: 0,
            reserved3: 0,
            io_map_base: IO_MAP_OFF,
            io_map: [0xff; IO_MAP_BYTES],
            io_map_end: [0xff; 4],
        }
    }
    /// Sets the stack that traps to ring 0 arrive on.
    pub fn set_rsp0(&mut self, stack: Vaddr) {
        self.rsp = [stack.0, 0, 0];
    }
    /// Sets the interrupt stacks, from IST 1 on.
    pub fn set_ist(&mut self, tops: [Vaddr; 4]) {
        let [a, b, c, d] = tops;
        self.ist = [a.0, b.0, c.0, d.0, 0, 0, 0];
    }
    /// Opens the ports of the map ([`IO_MAP_ON`]) or none ([`IO_MAP_OFF`]).
    pub fn set_io_map_base(&mut self, base: u16) {
        self.io_map_base = base;
    }
    /// The port permissions: a clear bit opens its port.
    pub fn io_map(&mut self) -> &mut [u8; IO_MAP_BYTES] {
        &mut self.io_map
    }
}

impl Default for Tss {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a CPU's tables are.
struct CpuTables {
    gdt: AtomicU64,
    gdt_frame: AtomicU64,
    tss: AtomicU64,
}
static TABLES: PerCpu<CpuTables> = PerCpu::new(
    [const {
        CpuTables {
            gdt: AtomicU64::new(0),
            gdt_frame: AtomicU64::new(0),
            tss: AtomicU64::new(0),
        }
    }; MAX_CPUS],
);

/// Notes the GDT page of `cpu`, also by its frame, and its TSS.
pub fn set_cpu_tables(cpu: CpuId, gdt: &'static GdtPage, gdt_frame: Mfn, tss: &'static mut Tss) {
    let tables = TABLES.of(cpu);
    tables.gdt.store(gdt.as_ptr() as u64, Ordering::Release);
    tables.gdt_frame.store(gdt_frame.0, Ordering::Release);
    tables.tss.store(&raw mut *tss as u64, Ordering::Release);
}

/// Makes the TSS of `cpu` one that no CPU has loaded, for another CPU that takes its place.
pub fn release_tss(cpu: CpuId) {
    let tss = Vaddr(TABLES.of(cpu).tss.load(Ordering::Acquire));
    if let Some(page) = gdt(cpu) {
        set_tss(page, tss);
    }
}

/// The GDT page of `cpu`, which is mapped into the GDT window of the vCPU it runs.
#[expect(
    unsafe_code,
    reason = "turns the stored address back into the reference it was"
)]
pub fn gdt(cpu: CpuId) -> Option<&'static GdtPage> {
    let at = TABLES.of(cpu).gdt.load(Ordering::Acquire);
    // SAFETY: 0, or the address of what `set_cpu_tables` got, which lives for ever.
    (at != 0).then(|| unsafe { &*(at as *const GdtPage) })
}

/// The frame of [`gdt`].
pub fn gdt_frame(cpu: CpuId) -> Mfn {
    Mfn(TABLES.of(cpu).gdt_frame.load(Ordering::Acquire))
}

/// Lets `change` work on the TSS of this CPU.
#[expect(
    unsafe_code,
    reason = "turns the stored address back into the reference it was"
)]
#[inline]
pub fn with_tss<R>(change: impl FnOnce(&mut Tss) -> R) -> Option<R> {
    let at = TABLES
        .of(super::percpu::this_cpu())
        .tss
        .load(Ordering::Relaxed);
    // SAFETY: 0, or the address of what `set_cpu_tables` got for this CPU. Nobody else writes to it:
    // a CPU works on its own, interrupts are off, and no handler of an NMI or a fault comes here.
    (at != 0).then(|| change(unsafe { &mut *(at as *mut Tss) }))
}

/// An interrupt gate (APM vol. 2 §4.8.4).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Gate([u64; 2]);

impl Gate {
    /// A gate to `handler` with interrupts off, on stack `ist` (0: none), for `int n` from rings up to `dpl`.
    pub const fn interrupt(handler: u64, ist: u8, dpl: u8) -> Self {
        Self::interrupt_by(HYPERVISOR_CS, handler, ist, dpl)
    }
    /// The same by another code segment than the core's own.
    pub const fn interrupt_by(segment: u16, handler: u64, ist: u8, dpl: u8) -> Self {
        let attributes = 0x8e00 | (dpl as u64) << 13 | ist as u64;
        let low = handler & 0xffff | (segment as u64) << 16;
        Self([
            low | attributes << 32 | (handler >> 16 & 0xffff) << 48,
            handler >> 32,
        ])
    }
}

/// An interrupt descriptor table.
#[repr(C, align(4096))]
pub struct Idt(pub [Gate; 256]);

#[cfg(target_os = "none")]
mod load {
    #![expect(unsafe_code, reason = "lgdt, lidt, ltr, lldt")]
    use super::*;
    use core::arch::asm;

    /// What LGDT and LIDT take.
    #[repr(C, packed)]
    struct Pointer {
        limit: u16,
        base: u64,
    }

    /// Loads a GDT of [`GDT_LIMIT`] at `base`: the core's page is its fifteenth.
    ///
    /// # Safety
    /// The core's GDT page is mapped at `base + RESERVED_GDT_BYTES`.
    #[inline]
    pub unsafe fn load_gdt(base: Vaddr) {
        let pointer = Pointer {
            limit: GDT_LIMIT,
            base: base.0,
        };
        // SAFETY: the caller's promise.
        unsafe {
            asm!("lgdt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags))
        };
    }

    /// Loads an IDT.
    ///
    /// # Safety
    /// Its gates lead to code that can handle them.
    pub unsafe fn load_idt(idt: &'static Idt) {
        let pointer = Pointer {
            limit: (size_of::<Idt>() - 1) as u16,
            base: idt as *const Idt as u64,
        };
        // SAFETY: the caller's promise.
        unsafe {
            asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags))
        };
    }

    /// Makes CS and SS the core's, the data segments and the LDT null, and loads the TSS.
    ///
    /// A reset leaves the LDT register valid, with base 0 and 64 KiB (SDM vol. 3, table 10-1): selectors of a local
    /// table would mean descriptors, gates among them, in whatever a guest maps there.
    ///
    /// # Safety
    /// The loaded GDT holds the core's page.
    pub unsafe fn reload_segments() {
        // SAFETY: flat segments of the same privilege; FS and GS bases are not in use in ring 0.
        unsafe {
            asm!(
                "push {cs}",
                "lea {tmp}, [rip + 2f]",
                "push {tmp}",
                "retfq",
                "2: mov ss, {ss:e}",
                "xor {tmp:e}, {tmp:e}",
                "mov ds, {tmp:e}",
                "mov es, {tmp:e}",
                "mov fs, {tmp:e}",
                "mov gs, {tmp:e}",
                "lldt {tmp:x}",
                "ltr {tss:x}",
                cs = in(reg) u64::from(HYPERVISOR_CS),
                ss = in(reg) u64::from(HYPERVISOR_DS),
                tss = in(reg) TSS_SELECTOR,
                tmp = out(reg) _,
            );
        }
    }

    /// Loads the LDT register: [`LDT_SELECTOR`] after [`set_ldt`], or 0 for none.
    ///
    /// # Safety
    /// The descriptor in the loaded GDT is an LDT's.
    #[inline]
    pub unsafe fn load_ldt(selector: u16) {
        // SAFETY: the caller's promise.
        unsafe { asm!("lldt {:x}", in(reg) selector, options(readonly, nostack, preserves_flags)) };
    }
}

#[cfg(target_os = "none")]
pub use load::{load_gdt, load_idt, load_ldt, reload_segments};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_descriptor_fields() {
        let (low, high) = system(Vaddr(0xffff_8281_2345_6780), 0x2_3456, 9);
        assert_eq!(low, 0x2302_8945_6780_3456, "{low:#x}");
        assert_eq!(high, 0xffff_8281);
    }

    #[test]
    fn gate_fields() {
        let gate = Gate::interrupt(0x1122_3344_5566_7788, 3, 3);
        assert_eq!(gate.0, [0x5566_ee03_e008_7788, 0x1122_3344]);
    }
}
