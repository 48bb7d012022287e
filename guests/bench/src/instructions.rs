//! Rows about privileged instructions that the hypervisor emulates.

#![expect(unsafe_code, reason = "runs instructions that the hypervisor emulates")]

use core::arch::asm;

use crate::{meter, width};

/// Model-specific register (AMD APM vol. 2 appendix A).
const EFER: u32 = 0xc000_0080;

/// Measures all rows of this module.
pub fn measure() {
    meter::measure("cpuid_forced", width::cpuid);
    meter::measure("rdmsr_efer", || {
        // SAFETY: the hypervisor emulates the read.
        unsafe {
            asm!("rdmsr", in("ecx") EFER, out("eax") _, out("edx") _, options(nomem, nostack));
        }
    });
    width::write_fs_base();
    // SAFETY: the hypervisor emulates the reads.
    unsafe {
        meter::measure("read_cr0", || {
            asm!("mov {}, cr0", out(reg) _, options(nomem, nostack));
        });
        meter::measure("read_cr3", || {
            asm!("mov {}, cr3", out(reg) _, options(nomem, nostack));
        });
        meter::measure("read_cr4", || {
            asm!("mov {}, cr4", out(reg) _, options(nomem, nostack));
        });
    }
}
