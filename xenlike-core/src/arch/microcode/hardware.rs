//! The registers by which this CPU is updated (SDM vol. 3 §10.11.6 and §10.11.7; APM vol. 2, MSRC001_0020).
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "has the CPU load microcode")
)]

use super::{Identity, Refusal, Registers, Vendor, follow};
use crate::arch::{cpu, errata, msr};

/// The registers of the CPU on which it is used.
pub struct Hardware;

impl Registers for Hardware {
    fn identity(&self) -> Identity {
        const PLATFORM_ID: u32 = 0x17;
        const PATCH_LEVEL: u32 = 0x8b;
        let vendor = cpu::features().vendor;
        let (platform, revision) = match vendor {
            Vendor::Intel => {
                let platform = msr::read_safe(PLATFORM_ID).unwrap_or(0) >> 50 & 7;
                (1 << platform, errata::microcode())
            }
            _ => (0, msr::read_safe(PATCH_LEVEL).unwrap_or(0) as u32),
        };
        Identity {
            vendor,
            signature: cpu::cpuid(1, 0)[0],
            platform,
            revision,
        }
    }

    #[cfg(not(target_os = "none"))]
    fn load(&self, _address: u64) -> bool {
        false
    }

    #[cfg(target_os = "none")]
    fn load(&self, address: u64) -> bool {
        const INTEL_TRIGGER: u32 = 0x79;
        const AMD_LOADER: u32 = 0xc001_0020;
        let register = match cpu::features().vendor {
            Vendor::Intel => INTEL_TRIGGER,
            _ => AMD_LOADER,
        };
        // SAFETY: the update is complete, for this CPU, and stays in memory; the CPU verifies its origin. The caches
        // are written back first, as some of Intel's CPUs require. Some of AMD's leave the update's page uncached in
        // the TLB, so that is flushed.
        unsafe {
            core::arch::asm!("wbinvd", options(nostack, preserves_flags));
            let loads = msr::write_safe(register, address);
            core::arch::asm!("mov {t}, cr3", "mov cr3, {t}", t = out(reg) _, options(nostack, preserves_flags));
            loads
        }
    }
}

/// Loads the update that the boot CPU has loaded, on this CPU, which is starting.
pub fn follow_boot_cpu() {
    match follow(&Hardware) {
        Ok(()) => {}
        Err(Refusal::NoneFits) => log::warn!("microcode: a CPU is of another kind than the first"),
        Err(why) => log::warn!("microcode: on another CPU: {why}"),
    }
}
