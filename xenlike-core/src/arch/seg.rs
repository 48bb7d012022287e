//! Segment registers and segment bases of the guest that runs on this CPU. The core itself uses none of them.
//!
//! In guest kernel mode GS_BASE is the kernel's base and KERNEL_GS_BASE that of user mode; each change of mode
//! exchanges them by `swapgs`.

use super::msr;

/// The selectors of DS, ES, FS and GS, in this order.
pub type Selectors = [u16; 4];

/// The bases of FS and GS, and the GS base that `swapgs` would load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bases {
    /// The value of MSR FS_BASE.
    pub fs: u64,
    /// The value of MSR GS_BASE.
    pub gs: u64,
    /// The value of MSR KERNEL_GS_BASE.
    pub shadow_gs: u64,
}

/// One of the [`Bases`]; its value is the number of the MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Base {
    /// The base of FS, MSR FS_BASE.
    Fs = msr::nr::FS_BASE,
    /// The active base of GS, MSR GS_BASE.
    Gs = msr::nr::GS_BASE,
    /// The inactive base of GS, MSR KERNEL_GS_BASE.
    ShadowGs = msr::nr::KERNEL_GS_BASE,
}

/// Reads the bases that are loaded now.
pub fn bases() -> Bases {
    Bases {
        fs: msr::read(msr::nr::FS_BASE),
        gs: msr::read(msr::nr::GS_BASE),
        shadow_gs: msr::read(msr::nr::KERNEL_GS_BASE),
    }
}

#[cfg(target_os = "none")]
pub use real::*;

#[cfg(target_os = "none")]
mod real {
    #![expect(unsafe_code, reason = "segment registers")]
    use super::{Base, Bases, Selectors, msr};
    use core::arch::asm;

    /// Reads the selectors that are loaded now.
    pub fn selectors() -> Selectors {
        let (ds, es, fs, gs): (u16, u16, u16, u16);
        // SAFETY: only reads registers.
        unsafe {
            asm!("mov {:x}, ds", out(reg) ds, options(nomem, nostack, preserves_flags));
            asm!("mov {:x}, es", out(reg) es, options(nomem, nostack, preserves_flags));
            asm!("mov {:x}, fs", out(reg) fs, options(nomem, nostack, preserves_flags));
            asm!("mov {:x}, gs", out(reg) gs, options(nomem, nostack, preserves_flags));
        }
        [ds, es, fs, gs]
    }

    macro_rules! loader {
        ($name:ident, $insn:literal) => {
            /// Loads the segment register. If the selector can't be loaded, loads a null selector and returns false.
            fn $name(selector: u16) -> bool {
                let failed: u64;
                // SAFETY: the segment is the guest's, and the core doesn't use the register; a fault lands at label 3
                // through the exception table.
                unsafe {
                    asm!(
                        concat!("2: ", $insn),
                        "jmp 4f",
                        "3: xor {sel:e}, {sel:e}",
                        $insn,
                        "mov {failed:e}, 1",
                        "4:",
                        ".pushsection .extable, \"a\"",
                        ".balign 4",
                        ".long 2b - .",
                        ".long 3b - .",
                        ".popsection",
                        sel = inout(reg) u64::from(selector) => _,
                        failed = inout(reg) 0_u64 => failed,
                        options(nostack),
                    );
                }
                failed == 0
            }
        };
    }
    loader!(load_ds, "mov ds, {sel:x}");
    loader!(load_es, "mov es, {sel:x}");
    loader!(load_fs, "mov fs, {sel:x}");
    loader!(load_gs, "mov gs, {sel:x}");

    /// Loads all selectors and then the bases, which a selector load would overwrite. Returns false if a
    /// selector could not be loaded.
    pub fn load(selectors: Selectors, bases: &Bases) -> bool {
        let loaded = load_selectors(selectors);
        set_base(Base::Fs, bases.fs);
        set_base(Base::Gs, bases.gs);
        set_base(Base::ShadowGs, bases.shadow_gs);
        loaded
    }

    /// Loads all selectors, whether or not some fault. Returns false if one did; its register is null then.
    #[inline]
    pub fn load_selectors([ds, es, fs, gs]: Selectors) -> bool {
        [load_ds(ds), load_es(es), load_fs(fs), load_gs(gs)] == [true; 4]
    }

    /// Sets a base. A base that is not canonical is ignored.
    #[inline]
    pub fn set_base(which: Base, base: u64) {
        // SAFETY: the core uses neither FS nor GS; the base is canonical, or the write is ignored.
        unsafe { msr::write_or_ignore(which as u32, base) };
    }

    /// Exchanges the two GS bases.
    #[inline]
    pub fn swap_gs() {
        // SAFETY: the core doesn't use GS.
        unsafe { asm!("swapgs", options(nomem, nostack, preserves_flags)) };
    }

    /// Loads GS for guest user mode while the guest is in kernel mode: the selector, and its base into KERNEL_GS_BASE.
    /// Returns false if the selector can't be loaded.
    pub fn load_user_gs(selector: u16) -> bool {
        swap_gs();
        let loaded = load_gs(selector);
        swap_gs();
        loaded
    }
}

#[cfg(not(target_os = "none"))]
pub use fake::*;

#[cfg(not(target_os = "none"))]
mod fake {
    #![cfg_attr(
        clippy,
        expect(
            missing_docs,
            reason = "stand-ins for the functions of the same names above"
        )
    )]
    use super::{Base, Bases, Selectors};

    pub fn selectors() -> Selectors {
        [0; 4]
    }
    pub fn load(_selectors: Selectors, _bases: &Bases) -> bool {
        true
    }
    pub fn load_selectors(_selectors: Selectors) -> bool {
        true
    }
    pub fn set_base(_which: Base, _base: u64) {}
    pub fn swap_gs() {}
    pub fn load_user_gs(_selector: u16) -> bool {
        true
    }
}
