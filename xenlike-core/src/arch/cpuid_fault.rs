//! CPUID faulting: outside ring 0 the instruction raises #GP, so that a guest sees its CPUID policy and
//! not the machine (Intel: MISC_FEATURES_ENABLES bit 0, enumerated by PLATFORM_INFO bit 31; AMD: HWCR
//! bit 35, enumerated by CpuidUserDis).

use crate::kit::atomic::{AtomicU8, Ordering};

use super::cpu::{self, Vendor};
use super::{msr, percpu};
use crate::kit::MAX_CPUS;
use crate::kit::cell::PerCpu;

const INTEL_FAULTS: u64 = 1;
const AMD_FAULTS: u64 = 1 << 35;

/// For which domains CPUID faults, as a [`For`]. Set at boot.
static FAULTS_FOR: AtomicU8 = AtomicU8::new(For::Nobody as u8);
/// The setting of each CPU: 0 while unknown, 1 for off, 2 for on. Saves MSR accesses at switches.
static NOW: PerCpu<AtomicU8> = PerCpu::new([const { AtomicU8::new(0) }; MAX_CPUS]);

/// The domains for which CPUID faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum For {
    /// No domain, because the CPU doesn't support faulting.
    Nobody,
    /// All domains, domain 0 included.
    All,
    /// All domains except domain 0 (`dom0=no-cpuid-faulting`).
    AllButDom0,
}

/// Sets the domains for which CPUID faults; called once, at boot. Has no effect on a CPU without the feature.
pub fn set_for(whom: For) {
    if cpu::features().cpuid_faulting {
        FAULTS_FOR.store(whom as u8, Ordering::Relaxed);
    }
}

/// Sets faulting on this CPU for a vCPU of domain 0 or of another domain.
#[inline]
pub fn before(is_dom0: bool) {
    let whom = FAULTS_FOR.load(Ordering::Relaxed);
    if whom != For::Nobody as u8 {
        set(whom == For::All as u8 || !is_dom0);
    }
}

fn set(faults: bool) {
    let wanted = 1 + u8::from(faults);
    if NOW.of(percpu::this_cpu()).swap(wanted, Ordering::Relaxed) == wanted {
        return;
    }
    let (number, bit) = match cpu::features().vendor {
        Vendor::Amd => (msr::nr::HWCR, AMD_FAULTS),
        Vendor::Intel | Vendor::Other => (msr::nr::MISC_FEATURES_ENABLES, INTEL_FAULTS),
    };
    let Some(value) = msr::read_safe(number) else {
        return;
    };
    // SAFETY: ring 0 can still execute CPUID, and no other bit changes.
    #[expect(unsafe_code, reason = "turns CPUID faulting on and off")]
    unsafe {
        msr::write_safe(number, with_bit(value, bit, faults));
    }
}

const fn with_bit(value: u64, bit: u64, on: bool) -> u64 {
    if on { value | bit } else { value & !bit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_bit_changes() {
        assert_eq!(with_bit(0x10, AMD_FAULTS, true), 0x8_0000_0010);
        assert_eq!(with_bit(u64::MAX, INTEL_FAULTS, false), u64::MAX - 1);
    }
}
