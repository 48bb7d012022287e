//! Segment registers and bases of the guest that runs here. The core itself uses none of them.
//!
//! In guest kernel mode GS_BASE is the kernel's and KERNEL_GS_BASE the user mode's; `swapgs` at each
//! change of mode turns them round.

use super::msr;

/// ds, es, fs, gs.
pub type Selectors = [u16; 4];

/// Bases of fs and gs, and the gs base that `swapgs` would bring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bases {
    /// FS_BASE
    pub fs: u64,
    /// GS_BASE
    pub gs: u64,
    /// KERNEL_GS_BASE
    pub shadow_gs: u64,
}

/// One of the [`Bases`], by its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Base {
    /// FS_BASE
    Fs = msr::nr::FS_BASE,
    /// GS_BASE
    Gs = msr::nr::GS_BASE,
    /// KERNEL_GS_BASE
    ShadowGs = msr::nr::KERNEL_GS_BASE,
}

/// The bases now.
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

    /// The selectors now.
    pub fn selectors() -> Selectors {
        let (ds, es, fs, gs): (u16, u16, u16, u16);
        // SAFETY: reads registers.
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
            /// Loads the register; a selector that can't be loaded leaves it null and says false.
            fn $name(selector: u16) -> bool {
                let failed: u64;
                // SAFETY: a guest's segment; a fault lands at label 3 through the exception table.
                // The core doesn't use the register.
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

    /// Loads all four, then the bases. False if one of the selectors could not be loaded.
    pub fn load(selectors: Selectors, bases: &Bases) -> bool {
        let [ds, es, fs, gs] = selectors;
        // All four are tried: each that can be loaded is.
        let loaded = [load_ds(ds), load_es(es), load_fs(fs), load_gs(gs)];
        set_base(Base::Fs, bases.fs);
        set_base(Base::Gs, bases.gs);
        set_base(Base::ShadowGs, bases.shadow_gs);
        loaded == [true; 4]
    }

    /// Sets a base to a canonical address.
    #[inline]
    pub fn set_base(which: Base, base: u64) {
        // SAFETY: the core uses neither fs nor gs; the base is canonical, or the write is ignored.
        unsafe { msr::write_or_ignore(which as u32, base) };
    }

    /// Turns the two gs bases round.
    #[inline]
    pub fn swap_gs() {
        // SAFETY: the core doesn't use gs.
        unsafe { asm!("swapgs", options(nomem, nostack, preserves_flags)) };
    }

    /// Loads gs for guest user mode while the guest is in kernel mode: selector, and the base that
    /// comes with it into the shadow. False if it can't be loaded.
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
    #![expect(
        missing_docs,
        reason = "stand-ins for the functions of the same names above"
    )]
    use super::{Base, Bases, Selectors};

    pub fn selectors() -> Selectors {
        [0; 4]
    }
    pub fn load(_selectors: Selectors, _bases: &Bases) -> bool {
        true
    }
    pub fn set_base(_which: Base, _base: u64) {}
    pub fn swap_gs() {}
    pub fn load_user_gs(_selector: u16) -> bool {
        true
    }
}
