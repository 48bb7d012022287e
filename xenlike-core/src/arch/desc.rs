//! Segment descriptors, TSS and IDT: their types, the flat selectors of the public ABI, and how they are loaded.

use crate::kit::atomic::{AtomicU64, Ordering};

use guest_pv_abi::Width;

use crate::kit::cell::PerCpu;
use crate::kit::{CpuId, MAX_CPUS, Mfn, Vaddr};

/// The offset of the core's own page in every GDT: that of entry 7168 (FIRST_RESERVED_GDT_BYTE in xen.h).
pub const RESERVED_GDT_BYTES: u64 = 14 * 4096;
/// The limit of every GDT that is loaded: the end of the core's page.
pub const GDT_LIMIT: u16 = 0xefff;
/// The selector of ring-0 64-bit code.
pub const HYPERVISOR_CS: u16 = 0xe008;
/// The selector of ring-0 data and stack.
pub const HYPERVISOR_DS: u16 = 0xe010;
/// The selector of ring-3 32-bit code (FLAT_RING3_CS32 in arch-x86/xen-x86_64.h).
pub const FLAT_RING3_CS32: u16 = 0xe023;
/// The selector of ring-3 data and stack (FLAT_RING3_SS64).
pub const FLAT_RING3_SS: u16 = 0xe02b;
/// The selector of ring-3 64-bit code (FLAT_RING3_CS64).
pub const FLAT_RING3_CS64: u16 = 0xe033;
/// The selector of the CPU's TSS.
pub const TSS_SELECTOR: u16 = 0xe040;
/// The selector of the current vCPU's LDT.
pub const LDT_SELECTOR: u16 = 0xe050;

/// A page of descriptors. Atomic words, because the CPU may read one while software writes another.
pub type GdtPage = [AtomicU64; 512];

/// The flat descriptors, by index in the page. Their accessed bits are set, so that the CPU never writes to them: a
/// guest's mapping of the page is read-only.
const FLAT: [(usize, u64); 5] = [
    (1, 0x00af_9b00_0000_ffff),
    (2, 0x00cf_9300_0000_ffff),
    (4, 0x00cf_fb00_0000_ffff),
    (5, 0x00cf_f300_0000_ffff),
    (6, 0x00af_fb00_0000_ffff),
];
/// The same for narrow guests, whose selectors are those of arch-x86/xen-x86_32.h. The only 64-bit code segment is ring 0's own: ring 1 has supervisor privilege in the page
/// tables, so with 64-bit code it could reach the hypervisor's memory.
const NARROW_FLAT: [(usize, u64); 6] = [
    (1, 0x00af_9b00_0000_ffff),
    (2, 0x00cf_9300_0000_ffff),
    (3, 0x00cf_bb00_0000_ffff),
    (4, 0x00cf_b300_0000_ffff),
    (5, 0x00cf_fb00_0000_ffff),
    (6, 0x00cf_f300_0000_ffff),
];
const TSS_ENTRY: usize = 8;
const LDT_ENTRY: usize = 10;
const CPU_NUMBER_ENTRY: usize = 12;

fn put(page: &GdtPage, entry: usize, value: u64) {
    if let Some(slot) = page.get(entry) {
        slot.store(value, Ordering::Relaxed);
    }
}

/// Encodes the two words of a system descriptor (APM vol. 2 §4.8.3). `kind` 2 is an LDT, 9 an available TSS.
fn system(base: Vaddr, limit: u32, kind: u64) -> (u64, u64) {
    let (base, limit) = (base.0, u64::from(limit));
    let low = limit & 0xffff
        | (base & 0xff_ffff) << 16
        | (kind | 0x80) << 40
        | (limit >> 16 & 0xf) << 48
        | (base >> 24 & 0xff) << 56;
    (low, base >> 32)
}

/// Fills the GDT page of the CPU with this number and TSS, for guests of this width.
pub fn fill_gdt(page: &GdtPage, width: Width, cpu: u32, tss: Vaddr) {
    let flat: &[(usize, u64)] = match width {
        Width::Wide => &FLAT,
        Width::Narrow => &NARROW_FLAT,
    };
    for (entry, value) in flat {
        put(page, *entry, *value);
    }
    set_tss(page, tss);
    put(
        page,
        CPU_NUMBER_ENTRY,
        0x0000_f100_0000_0000 | u64::from(cpu & 0xffff),
    );
}

/// Writes the TSS descriptor, as available: LTR marks it busy.
pub fn set_tss(page: &GdtPage, tss: Vaddr) {
    let (low, high) = system(tss, size_of::<Tss>() as u32 - 1, 9);
    put(page, TSS_ENTRY, low);
    put(page, TSS_ENTRY + 1, high);
}

/// Writes the descriptor of an LDT with `entries` 8-byte entries at `base`. With 0 entries it is not present.
pub fn set_ldt(page: &GdtPage, base: Vaddr, entries: u32) {
    let (low, high) = match entries {
        0 => (0, 0),
        n => system(base, n.saturating_mul(8) - 1, 2),
    };
    put(page, LDT_ENTRY, low);
    put(page, LDT_ENTRY + 1, high);
}

/// The 64-bit task state segment (APM vol. 2 §12.2.5). It has no I/O permission map, so ring 3 may use no port.
#[repr(C, packed(4))]
pub struct Tss {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map_base: u16,
}

const _: () = assert!(size_of::<Tss>() == 104);

impl Tss {
    /// Makes a TSS without stacks.
    pub const fn new() -> Self {
        Self {
            reserved0: 0,
            rsp: [0; 3],
            reserved1: 0,
            ist: [0; 7],
            reserved2: 0,
            reserved3: 0,
            // Beyond the limit of the TSS: no map.
            io_map_base: 0xffff,
        }
    }
    /// Sets the stack of traps that come from outer rings.
    pub fn set_rsp0(&mut self, stack: Vaddr) {
        self.rsp = [stack.0, 0, 0];
    }
    /// Sets the tops of the interrupt stacks IST 1 to IST 4.
    pub fn set_ist(&mut self, tops: [Vaddr; 4]) {
        let [a, b, c, d] = tops;
        self.ist = [a.0, b.0, c.0, d.0, 0, 0, 0];
    }
}

impl Default for Tss {
    fn default() -> Self {
        Self::new()
    }
}

/// A GDT page and its frame; 0 until boot has set them.
struct GdtSlot {
    address: AtomicU64,
    frame: AtomicU64,
}

impl GdtSlot {
    const fn new() -> Self {
        Self {
            address: AtomicU64::new(0),
            frame: AtomicU64::new(0),
        }
    }
}

/// A CPU's GDT pages, for wide and narrow guests, and the address of its TSS.
struct CpuTables {
    wide: GdtSlot,
    narrow: GdtSlot,
    tss: AtomicU64,
}

impl CpuTables {
    const fn gdt(&self, width: Width) -> &GdtSlot {
        match width {
            Width::Wide => &self.wide,
            Width::Narrow => &self.narrow,
        }
    }
}

static TABLES: PerCpu<CpuTables> = PerCpu::new(
    [const {
        CpuTables {
            wide: GdtSlot::new(),
            narrow: GdtSlot::new(),
            tss: AtomicU64::new(0),
        }
    }; MAX_CPUS],
);

/// Records a GDT page of `cpu` and its frame.
pub fn set_gdt(cpu: CpuId, width: Width, gdt: &'static GdtPage, frame: Mfn) {
    let slot = TABLES.of(cpu).gdt(width);
    slot.address.store(gdt.as_ptr() as u64, Ordering::Release);
    slot.frame.store(frame.0, Ordering::Release);
}

/// Records the TSS of `cpu`.
pub fn set_cpu_tss(cpu: CpuId, tss: &'static mut Tss) {
    let address = &raw mut *tss as u64;
    TABLES.of(cpu).tss.store(address, Ordering::Release);
}

/// Marks the TSS of `cpu` as available again, so that another CPU that takes over the number can load it.
pub fn release_tss(cpu: CpuId) {
    let tss = Vaddr(TABLES.of(cpu).tss.load(Ordering::Acquire));
    if let Some(page) = gdt(cpu, Width::Wide) {
        set_tss(page, tss);
    }
}

/// The GDT page of `cpu` that is mapped into the GDT window of a vCPU of this width while it runs there. While
/// no vCPU runs, the CPU uses the one for wide guests.
#[expect(
    unsafe_code,
    reason = "turns the stored address back into the reference it was"
)]
pub fn gdt(cpu: CpuId, width: Width) -> Option<&'static GdtPage> {
    let at = TABLES.of(cpu).gdt(width).address.load(Ordering::Acquire);
    // SAFETY: the address of the `&'static GdtPage` that was recorded by `set_gdt`.
    (at != 0).then(|| unsafe { &*(at as *const GdtPage) })
}

/// The machine frame of the page that [`gdt`] returns.
pub fn gdt_frame(cpu: CpuId, width: Width) -> Mfn {
    Mfn(TABLES.of(cpu).gdt(width).frame.load(Ordering::Acquire))
}

/// An interrupt gate, a descriptor of the IDT (APM vol. 2 §4.8.4).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Gate([u64; 2]);

impl Gate {
    /// A gate to `handler` that disables interrupts and switches to stack `ist` (0: none). Rings up to `dpl` may invoke
    /// it by `int n`.
    pub const fn interrupt(handler: u64, ist: u8, dpl: u8) -> Self {
        Self::interrupt_by(HYPERVISOR_CS, handler, ist, dpl)
    }
    /// Like [`Self::interrupt`], with another code segment than the core's own.
    pub const fn interrupt_by(segment: u16, handler: u64, ist: u8, dpl: u8) -> Self {
        let attributes = 0x8e00 | (dpl as u64) << 13 | ist as u64;
        let low = handler & 0xffff | (segment as u64) << 16;
        Self([
            low | attributes << 32 | (handler >> 16 & 0xffff) << 48,
            handler >> 32,
        ])
    }
}

/// An interrupt descriptor table: one gate for each vector.
#[repr(C, align(4096))]
pub struct Idt(pub [Gate; 256]);

#[cfg(target_os = "none")]
mod load {
    #![expect(unsafe_code, reason = "lgdt, lidt, ltr, lldt")]
    use super::*;
    use core::arch::asm;

    /// The operand of LGDT and LIDT.
    #[repr(C, packed)]
    struct Pointer {
        limit: u16,
        base: u64,
    }

    /// Loads the GDT at `base` with [`GDT_LIMIT`]. Its fifteenth page is the core's.
    ///
    /// # Safety
    /// The core's GDT page is mapped at `base + RESERVED_GDT_BYTES`.
    #[inline]
    pub unsafe fn load_gdt(base: Vaddr) {
        let pointer = Pointer {
            limit: GDT_LIMIT,
            base: base.0,
        };
        // SAFETY: by the caller's promise.
        unsafe {
            asm!("lgdt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags))
        };
    }

    /// Loads the IDT of this CPU.
    ///
    /// # Safety
    /// Each gate leads to code that can handle its vector.
    pub unsafe fn load_idt(idt: &'static Idt) {
        let pointer = Pointer {
            limit: (size_of::<Idt>() - 1) as u16,
            base: idt as *const Idt as u64,
        };
        // SAFETY: by the caller's promise.
        unsafe {
            asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags))
        };
    }

    /// Loads the core's CS and SS, null selectors into the data segment registers and the LDT register, and the TSS.
    ///
    /// After a reset the LDT register is valid, with base 0 and a limit of 64 KiB (SDM vol. 3, table 10-1). Without the
    /// null selector, local selectors would refer to descriptors, gates included, in whatever a guest maps there.
    ///
    /// # Safety
    /// The loaded GDT contains the core's page.
    pub unsafe fn reload_segments() {
        // SAFETY: the new segments are flat and of the same privilege; ring 0 uses no FS or GS base.
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

    /// Loads the LDT register: with [`LDT_SELECTOR`] after [`set_ldt`], or with 0 for no LDT.
    ///
    /// # Safety
    /// The descriptor in the loaded GDT is that of an LDT, or not present.
    #[inline]
    pub unsafe fn load_ldt(selector: u16) {
        // SAFETY: by the caller's promise.
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
