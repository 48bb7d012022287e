//! The few machine registers whose value a guest may choose because they don't matter to the core; and barriers, which
//! guests execute by emulated instructions and the core executes between guests.

use guest_pv_abi::Width;

use super::cr::cr4;

/// The CR4 bits that follow the guest. The core itself accesses segment bases as MSRs, so it doesn't need FSGSBASE.
const CHOICE: u64 = cr4::TSD | cr4::DE | cr4::FSGSBASE;

/// The CR4 bits that keep supervisor code from the user's pages. The kernel of a narrow guest is supervisor code and
/// knows nothing of them, so while such a vCPU is loaded they are off.
const HARDENING: u64 = cr4::SMEP | cr4::SMAP;

/// The CR4 value for a guest of this width with CR4 `guest`, on a CPU whose own value is `base` and that has `now` loaded.
pub const fn with_choice(base: u64, now: u64, guest: u64, width: Width) -> u64 {
    let hardening = match width {
        Width::Wide => base & HARDENING,
        Width::Narrow => 0,
    };
    now & !(CHOICE | HARDENING) | guest & CHOICE | hardening
}

#[cfg(target_os = "none")]
mod real {
    #![expect(unsafe_code, reason = "privileged instructions")]
    use super::super::{cpu, cr, msr};
    use super::{Width, with_choice};
    use crate::kit::atomic::AtomicU16;
    use core::arch::asm;

    /// Sets the CR4 bits that guests choose as in `guest`, which contains no bit that the machine lacks, and those that
    /// depend on the guest's width.
    pub fn set_cr4(guest: u64, width: Width) {
        let now = cr::read_cr4();
        let wanted = with_choice(cr::base_cr4(&cpu::features()), now, guest, width);
        if wanted != now {
            // SAFETY: only TSD, DE, FSGSBASE, SMEP and SMAP change. The core relies on none of them.
            unsafe { cr::write_cr4(wanted) };
        }
    }

    /// Loads TSC_AUX, if the machine has it.
    pub fn set_tsc_aux(value: u32) {
        if cpu::features().rdtscp {
            // SAFETY: the core doesn't use the register.
            unsafe { msr::write_safe(msr::nr::TSC_AUX, u64::from(value)) };
        }
    }

    /// Executes an indirect branch prediction barrier (IBPB).
    pub fn prediction_barrier() {
        // SAFETY: a command that only affects branch prediction.
        unsafe { msr::write_safe(msr::nr::PRED_CMD, 1) };
    }

    /// Clears the CPU buffers that MDS attacks sample: VERW with a memory operand, on CPUs with MD_CLEAR.
    pub fn clear_buffers(selector: &AtomicU16) {
        // SAFETY: only flags change.
        unsafe { asm!("verw word ptr [{}]", in(reg) selector.as_ptr(), options(nostack)) };
    }

    /// Writes back and invalidates the caches of this CPU.
    pub fn flush_caches() {
        // SAFETY: memory keeps its contents.
        unsafe { asm!("wbinvd", options(nostack, preserves_flags)) };
    }
}

#[cfg(not(target_os = "none"))]
mod real {
    /// Does nothing: the host's registers aren't ours.
    pub fn set_cr4(_guest: u64, _width: guest_pv_abi::Width) {}
    /// Does nothing: the host's registers aren't ours.
    pub fn set_tsc_aux(_value: u32) {}
    /// Does nothing: the host has no such command.
    pub fn prediction_barrier() {}
    /// Does nothing: the host has no guests to protect.
    pub fn clear_buffers(_selector: &crate::kit::atomic::AtomicU16) {}
    /// Does nothing: the host may not flush its caches.
    pub fn flush_caches() {}
}

pub use real::{clear_buffers, flush_caches, prediction_barrier, set_cr4, set_tsc_aux};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_choose_three_bits() {
        let wide = |now, guest| with_choice(0x668, now, guest, Width::Wide);
        assert_eq!(wide(0x668, u64::MAX), 0x1_066c);
        assert_eq!(wide(0x1_0668, 0), 0x660);
    }

    #[test]
    fn a_narrow_kernel_reaches_user_pages() {
        let base = 0x668 | HARDENING;
        let narrow = with_choice(base, base, 0, Width::Narrow);
        assert_eq!(narrow & HARDENING, 0);
        assert_eq!(
            with_choice(base, narrow, 0, Width::Wide) & HARDENING,
            HARDENING
        );
    }
}
