//! Control registers.

use super::cpu::Features;

/// CR0 bits (APM vol. 2 §3.1.1).
pub mod cr0 {
    #![expect(missing_docs, reason = "the manuals' names")]
    pub const PE: u64 = 1;
    pub const MP: u64 = 1 << 1;
    pub const EM: u64 = 1 << 2;
    pub const TS: u64 = 1 << 3;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const AM: u64 = 1 << 18;
    pub const PG: u64 = 1 << 31;
}

/// CR4 bits (APM vol. 2 §3.1.3).
pub mod cr4 {
    #![expect(missing_docs, reason = "the manuals' names")]
    pub const VME: u64 = 1;
    pub const PVI: u64 = 1 << 1;
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const PCE: u64 = 1 << 8;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const FSGSBASE: u64 = 1 << 16;
    pub const PCIDE: u64 = 1 << 17;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
}

/// The CR0 the core runs with, TS aside.
pub const CR0: u64 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::PG;

/// The CR4 the core runs with on such a machine; guests choose TSD, DE and FSGSBASE themselves. No PGE:
/// a CR3 load then flushes everything.
pub fn base_cr4(f: &Features) -> u64 {
    let when = |on: bool, bit: u64| if on { bit } else { 0 };
    cr4::DE
        | cr4::PSE
        | cr4::PAE
        | cr4::MCE
        | cr4::OSFXSR
        | cr4::OSXMMEXCPT
        | when(f.fsgsbase, cr4::FSGSBASE)
        | when(f.xsave, cr4::OSXSAVE)
        | when(f.smep, cr4::SMEP)
        | when(f.smap, cr4::SMAP)
}

#[cfg(target_os = "none")]
mod real {
    #![expect(unsafe_code, reason = "moves to and from control registers")]
    use super::Features;
    use core::arch::asm;

    /// Sets CR0, CR4 and the memory types of this CPU.
    pub fn init(f: &Features) {
        // SAFETY: the values are the core's own; paging, PAE and WP stay as the boot code set them.
        unsafe {
            asm!("mov cr0, {}", in(reg) super::CR0, options(nostack, preserves_flags));
            asm!("mov cr4, {}", in(reg) super::base_cr4(f), options(nostack, preserves_flags));
        }
        crate::arch::memory_types::init_this_cpu();
    }

    /// CR2, the address of the last page fault.
    #[inline(always)]
    pub fn cr2() -> u64 {
        let value;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }
    /// CR0.
    #[inline(always)]
    pub fn read_cr0() -> u64 {
        let value;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }
    /// CR4.
    #[inline(always)]
    pub fn read_cr4() -> u64 {
        let value;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }
    /// Sets CR4.
    ///
    /// # Safety
    /// The value is [`super::base_cr4`] with TSD, DE or FSGSBASE changed.
    #[inline(always)]
    pub unsafe fn write_cr4(value: u64) {
        // SAFETY: the caller's promise.
        unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
    /// Clears CR0.TS: the FPU may be used.
    #[inline(always)]
    pub fn clts() {
        // SAFETY: TS has no meaning for the core beyond the FPU, which it does not use itself.
        unsafe { asm!("clts", options(nostack, preserves_flags)) };
    }
    /// Sets CR0.TS: the next FPU instruction is an #NM.
    #[inline(always)]
    pub fn set_ts() {
        // SAFETY: as `clts`; nothing else changes.
        unsafe {
            asm!("mov cr0, {}", in(reg) super::CR0 | super::cr0::TS, options(nostack, preserves_flags));
        }
    }
    /// CR3 as the machine has it.
    #[inline(always)]
    pub fn read_cr3() -> u64 {
        let value;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }
    /// Loads CR3; use [`crate::arch::cr3::load`].
    ///
    /// # Safety
    /// The tables map the core as every L4 of the machine does.
    #[inline(always)]
    pub unsafe fn write_cr3(value: u64) {
        // SAFETY: the caller's promise.
        unsafe { asm!("mov cr3, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(target_os = "none"))]
mod real {
    #![expect(unsafe_code, reason = "the signatures of the real ones")]
    use super::Features;
    use crate::kit::atomic::{AtomicU64, Ordering};

    static CR3: AtomicU64 = AtomicU64::new(0);

    /// Nothing to set.
    pub fn init(_f: &Features) {}
    /// No fault happened.
    pub fn cr2() -> u64 {
        0
    }
    /// The core's value.
    pub fn read_cr0() -> u64 {
        super::CR0
    }
    /// A featureless machine's value.
    pub fn read_cr4() -> u64 {
        super::base_cr4(&Features::default())
    }
    /// Nothing to set.
    ///
    /// # Safety
    /// None needed.
    pub unsafe fn write_cr4(_value: u64) {}
    /// Nothing to clear.
    pub fn clts() {}
    /// Nothing to set.
    pub fn set_ts() {}
    /// What was written last.
    pub fn read_cr3() -> u64 {
        CR3.load(Ordering::Relaxed)
    }
    /// Keeps the value.
    ///
    /// # Safety
    /// None needed.
    pub unsafe fn write_cr3(value: u64) {
        CR3.store(value, Ordering::Relaxed);
    }
}

pub use real::{clts, cr2, init, read_cr0, read_cr3, read_cr4, set_ts, write_cr3, write_cr4};
