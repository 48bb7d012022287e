//! Model-specific registers. The host has none: reads return 0, safe reads `None`.

/// Register numbers (APM vol. 2 appendix A, SDM vol. 4).
pub mod nr {
    #![cfg_attr(clippy, expect(missing_docs, reason = "the manuals' names"))]
    pub const TSC: u32 = 0x10;
    pub const APIC_BASE: u32 = 0x1b;
    pub const SPEC_CTRL: u32 = 0x48;
    pub const PRED_CMD: u32 = 0x49;
    pub const TSC_ADJUST: u32 = 0x3b;
    pub const PLATFORM_INFO: u32 = 0xce;
    pub const ARCH_CAPABILITIES: u32 = 0x10a;
    pub const MISC_FEATURES_ENABLES: u32 = 0x140;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const PAT: u32 = 0x277;
    pub const TSC_DEADLINE: u32 = 0x6e0;
    pub const X2APIC_BASE: u32 = 0x800;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const FMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
    pub const HWCR: u32 = 0xc001_0015;
}

/// Bits of the register APIC_BASE.
pub mod apic_base {
    /// The APIC is in x2APIC mode.
    pub const X2APIC: u64 = 1 << 10;
    /// The local APIC is enabled.
    pub const ENABLED: u64 = 1 << 11;
}

/// Bits of the register EFER.
pub mod efer {
    /// SYSCALL and SYSRET are enabled.
    pub const SCE: u64 = 1;
    /// The no-execute bit of page tables is enabled.
    pub const NXE: u64 = 1 << 11;
}

/// The PAT that Xen's public headers promise to PV guests: WB WT UC- UC WC WP UC UC.
pub const PUBLIC_PAT: u64 = 0x0000_0501_0007_0406;

#[cfg(target_os = "none")]
mod real {
    #![expect(unsafe_code, reason = "rdmsr and wrmsr are instructions")]
    use core::arch::asm;

    /// Reads a register that the machine is known to have.
    #[inline]
    pub fn read(msr: u32) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: a read has no effect on memory; a missing register raises #GP, thus a panic.
        unsafe {
            asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack, preserves_flags));
        }
        u64::from(high) << 32 | u64::from(low)
    }

    /// Writes a register that the machine is known to have.
    ///
    /// # Safety
    /// The value keeps the machine in the state that the core relies on.
    #[inline]
    pub unsafe fn write(msr: u32, value: u64) {
        // SAFETY: by the caller's promise.
        unsafe {
            asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags));
        }
    }

    /// Reads a register that may not exist.
    pub fn read_safe(msr: u32) -> Option<u64> {
        let (low, high, ok): (u32, u32, u32);
        // SAFETY: as for `read`; the fault lands behind the instruction with `ok` still 0.
        unsafe {
            asm!(
                "2: rdmsr",
                "mov {ok:e}, 1",
                "3:",
                crate::extable!("2b", "3b"),
                ok = inout(reg) 0 => ok,
                in("ecx") msr, inout("eax") 0 => low, inout("edx") 0 => high,
                options(nostack),
            );
        }
        (ok != 0).then_some(u64::from(high) << 32 | u64::from(low))
    }

    /// Writes a register that may refuse the value; returns whether it accepted it.
    ///
    /// # Safety
    /// The value must keep the promise of [`write()`].
    pub unsafe fn write_safe(msr: u32, value: u64) -> bool {
        let ok: u32;
        // SAFETY: by the caller's promise; the fault lands behind the instruction with `ok` still 0.
        unsafe {
            asm!(
                "2: wrmsr",
                "mov {ok:e}, 1",
                "3:",
                crate::extable!("2b", "3b"),
                ok = inout(reg) 0 => ok,
                in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
                options(nostack),
            );
        }
        ok != 0
    }

    /// Writes a register that may refuse the value, in which case it keeps the old one.
    ///
    /// # Safety
    /// The value must keep the promise of [`write()`].
    #[inline]
    pub unsafe fn write_or_ignore(msr: u32, value: u64) {
        // SAFETY: by the caller's promise; a fault lands behind the instruction.
        unsafe {
            asm!(
                "2: wrmsr",
                "3:",
                crate::extable!("2b", "3b"),
                in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(not(target_os = "none"))]
mod real {
    #![expect(unsafe_code, reason = "the signatures of the real ones")]

    /// Returns 0: the host gives no access.
    pub fn read(_msr: u32) -> u64 {
        0
    }
    /// Does nothing: the host gives no access.
    ///
    /// # Safety
    /// There is nothing to promise on the host.
    pub unsafe fn write(_msr: u32, _value: u64) {}
    /// Returns `None`: the host gives no access.
    pub fn read_safe(_msr: u32) -> Option<u64> {
        None
    }
    /// Returns false: the host gives no access.
    ///
    /// # Safety
    /// There is nothing to promise on the host.
    pub unsafe fn write_safe(_msr: u32, _value: u64) -> bool {
        false
    }
    /// Does nothing: the host gives no access.
    ///
    /// # Safety
    /// There is nothing to promise on the host.
    pub unsafe fn write_or_ignore(_msr: u32, _value: u64) {}
}

pub use real::{read, read_safe, write, write_or_ignore, write_safe};
