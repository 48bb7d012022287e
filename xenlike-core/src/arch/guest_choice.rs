//! The few machine registers whose value is a guest's choice and harmless to the core, and the barriers
//! that a guest may order.

use super::cr::cr4;

/// CR4 bits that follow the guest. The core itself reads and writes segment bases as MSRs.
const CHOICE: u64 = cr4::TSD | cr4::DE | cr4::FSGSBASE;

/// The CR4 to run with while a guest's own says `guest`.
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

    /// Lets the bits of CR4 that guests choose be as this one wants them: its own CR4 holds none that the
    /// machine lacks.
    pub fn set_cr4(guest: u64) {
        let own = cr::read_cr4();
        let wanted = with_choice(own, guest);
        if wanted != own {
            // SAFETY: only TSD, DE and FSGSBASE change.
            unsafe { cr::write_cr4(wanted) };
        }
    }

    /// Loads TSC_AUX, where the machine has it.
    pub fn set_tsc_aux(value: u32) {
        if cpu::features().rdtscp {
            // SAFETY: the core doesn't use the register.
            unsafe { msr::write_safe(msr::nr::TSC_AUX, u64::from(value)) };
        }
    }

    /// An indirect branch prediction barrier.
    pub fn prediction_barrier() {
        // SAFETY: a command without lasting effect.
        unsafe { msr::write_safe(msr::nr::PRED_CMD, 1) };
    }

    /// Clears the buffers that can be sampled (MD_CLEAR), by VERW with a selector in memory.
    pub fn clear_buffers(selector: &AtomicU16) {
        // SAFETY: only flags change.
        unsafe { asm!("verw word ptr [{}]", in(reg) selector.as_ptr(), options(nostack)) };
    }

    /// Writes back and empties this CPU's caches.
    pub fn flush_caches() {
        // SAFETY: memory keeps its contents.
        unsafe { asm!("wbinvd", options(nostack, preserves_flags)) };
    }
}

#[cfg(not(target_os = "none"))]
mod real {
    /// Nothing to set.
    pub fn set_cr4(_guest: u64) {}
    /// Nothing to set.
    pub fn set_tsc_aux(_value: u32) {}
    /// Nothing to order.
    pub fn prediction_barrier() {}
    /// Nothing to clear.
    pub fn clear_buffers(_selector: &crate::kit::atomic::AtomicU16) {}
    /// Nothing to flush.
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
