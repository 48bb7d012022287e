//! Control registers: bits, the values that the core runs with, and access.

use super::cpu::Features;

/// CR0 bits (APM vol. 2 §3.1.1).
pub mod cr0 {
    #![cfg_attr(clippy, expect(missing_docs, reason = "the manuals' names"))]
    pub const PE: u64 = 1;
    pub const MP: u64 = 1 << 1;
    pub const TS: u64 = 1 << 3;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const AM: u64 = 1 << 18;
    pub const PG: u64 = 1 << 31;
}

/// CR4 bits (APM vol. 2 §3.1.3).
pub mod cr4 {
    #![cfg_attr(clippy, expect(missing_docs, reason = "the manuals' names"))]
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const FSGSBASE: u64 = 1 << 16;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
    pub const PKE: u64 = 1 << 22;
}

/// The CR0 value with which the core runs, apart from TS.
pub const CR0: u64 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::PG;

/// The CR4 value with which the core runs on a machine with these features. Guests choose TSD, DE and FSGSBASE
/// themselves (`guest_choice`). PGE stays off, so that every CR3 load flushes the whole TLB.
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

    /// Sets CR0, CR4, the PAT and the MTRRs of this CPU.
    pub fn init(f: &Features) {
        // SAFETY: the values are the core's own; paging, PAE and WP stay on, as the boot code set them.
        unsafe {
            asm!("mov cr0, {}", in(reg) super::CR0, options(nostack, preserves_flags));
            asm!("mov cr4, {}", in(reg) super::base_cr4(f), options(nostack, preserves_flags));
        }
        crate::arch::memory_types::init_this_cpu();
    }

    /// Reads CR2, the address of the last page fault.
    #[inline(always)]
    pub fn cr2() -> u64 {
        let value;
        // SAFETY: only reads a register.
        unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }
    /// Reads CR0 of this CPU.
    #[inline(always)]
    pub fn read_cr0() -> u64 {
        let value;
        // SAFETY: only reads a register.
        unsafe { asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }
    /// Reads CR4 of this CPU.
    #[inline(always)]
    pub fn read_cr4() -> u64 {
        let value;
        // SAFETY: only reads a register.
        unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }
    /// Writes CR4 of this CPU.
    ///
    /// # Safety
    /// The value is [`super::base_cr4`] with TSD, DE or FSGSBASE changed.
    #[inline(always)]
    pub unsafe fn write_cr4(value: u64) {
        // SAFETY: by the caller's promise.
        unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
    /// Clears CR0.TS, so that FPU instructions don't fault.
    #[inline(always)]
    pub fn clts() {
        // SAFETY: TS only affects the FPU, which the core itself doesn't use.
        unsafe { asm!("clts", options(nostack, preserves_flags)) };
    }
    /// Sets CR0.TS, so that the next FPU instruction raises #NM.
    #[inline(always)]
    pub fn set_ts() {
        // SAFETY: only TS changes, as for `clts`.
        unsafe {
            asm!("mov cr0, {}", in(reg) super::CR0 | super::cr0::TS, options(nostack, preserves_flags));
        }
    }
    /// Reads CR3: the machine address of the current L4.
    #[inline(always)]
    pub fn read_cr3() -> u64 {
        let value;
        // SAFETY: only reads a register.
        unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }
    /// Writes CR3. Call [`crate::arch::cr3::load`] instead, which also records the flush.
    ///
    /// # Safety
    /// The tables map the core, as every L4 of the machine does.
    #[inline(always)]
    pub unsafe fn write_cr3(value: u64) {
        // SAFETY: by the caller's promise.
        unsafe { asm!("mov cr3, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(target_os = "none"))]
mod real {
    #![expect(unsafe_code, reason = "the signatures of the real ones")]
    use super::Features;
    use crate::kit::atomic::{AtomicU64, Ordering};

    static CR3: AtomicU64 = AtomicU64::new(0);

    /// Does nothing: the host's registers aren't ours.
    pub fn init(_f: &Features) {}
    /// Returns 0: there was no page fault.
    pub fn cr2() -> u64 {
        0
    }
    /// Returns the value with which the core runs.
    pub fn read_cr0() -> u64 {
        super::CR0
    }
    /// Returns the value for a machine without features.
    pub fn read_cr4() -> u64 {
        super::base_cr4(&Features::default())
    }
    /// Does nothing: the host's registers aren't ours.
    ///
    /// # Safety
    /// There is nothing to promise on the host.
    pub unsafe fn write_cr4(_value: u64) {}
    /// Does nothing: the host's FPU stays usable.
    pub fn clts() {}
    /// Does nothing: the host's FPU stays usable.
    pub fn set_ts() {}
    /// Returns the value that was written last.
    pub fn read_cr3() -> u64 {
        CR3.load(Ordering::Relaxed)
    }
    /// Keeps the value for [`read_cr3`].
    ///
    /// # Safety
    /// There is nothing to promise on the host.
    pub unsafe fn write_cr3(value: u64) {
        CR3.store(value, Ordering::Relaxed);
    }
}

pub use real::{clts, cr2, init, read_cr0, read_cr3, read_cr4, set_ts, write_cr3, write_cr4};
