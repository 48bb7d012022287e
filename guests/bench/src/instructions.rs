//! Rows about privileged instructions that the hypervisor emulates.

#![expect(unsafe_code, reason = "runs instructions that the hypervisor emulates")]

use core::arch::asm;

use crate::meter;

/// Model-specific registers (AMD APM vol. 2 appendix A).
const EFER: u32 = 0xc000_0080;
const FS_BASE: u32 = 0xc000_0100;

/// Measures all rows of this module.
pub fn measure() {
    meter::measure("cpuid_forced", || {
        // SAFETY: the forced-emulation prefix (arch-x86/xen.h, XEN_CPUID) and cpuid, leaf 1.
        unsafe {
            asm!("push rbx", ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e", "cpuid", "pop rbx",
                inout("eax") 1 => _, inout("ecx") 0 => _, out("edx") _);
        }
    });
    meter::measure("rdmsr_efer", || {
        // SAFETY: the hypervisor emulates the read.
        unsafe {
            asm!("rdmsr", in("ecx") EFER, out("eax") _, out("edx") _, options(nomem, nostack));
        }
    });
    meter::measure("wrmsr_fs_base", || {
        // SAFETY: the hypervisor emulates the write; nothing here uses FS.
        unsafe {
            asm!("wrmsr", in("ecx") FS_BASE, in("eax") 0, in("edx") 0, options(nomem, nostack));
        }
    });
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
