//! The few machine registers whose value a guest may choose because they don't matter to the core; and barriers, which
//! guests execute by emulated instructions and the core executes between guests.

use super::cr::cr4;

/// The CR4 bits that follow the guest. The core itself accesses segment bases as MSRs, so it doesn't need FSGSBASE.
const CHOICE: u64 = cr4::TSD | cr4::DE | cr4::FSGSBASE;

/// The CR4 value for a guest with CR4 `guest`, on a CPU that has `own` loaded.
pub const fn with_choice(own: u64, guest: u64) -> u64 {
    own & !CHOICE | guest & CHOICE
}

#[cfg(target_os = "none")]
mod real {
    #![expect(unsafe_code, reason = "privileged instructions")]
    use super::super::{cpu, cr, msr};
    use super::with_choice;
    use crate::kit::atomic::AtomicU16;
    use core::arch::asm;

    /// Sets the CR4 bits that guests choose as in `guest`, which contains no bit that the machine lacks.
    pub fn set_cr4(guest: u64) {
        let own = cr::read_cr4();
        let wanted = with_choice(own, guest);
        if wanted != own {
            // SAFETY: only TSD, DE and FSGSBASE change.
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
    pub fn set_cr4(_guest: u64) {}
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
        assert_eq!(with_choice(0x668, u64::MAX), 0x1_066c);
        assert_eq!(with_choice(0x1_0668, 0), 0x660);
    }
}
