//! Known errata of CPUs' timers: TSC deadlines that fail without newer microcode, and C1E.

use super::cpu::{self, Features, Signature, Vendor};
use super::msr;

/// The first microcode revision with which the TSC deadline works, by model and stepping of Intel's family 6; `None`
/// for models that never had the erratum (HSD133, SKL102 and others in the specification updates).
const fn deadline_needs(model: u32, stepping: u32) -> Option<u32> {
    Some(match (model, stepping) {
        (0x3f, 2) => 0x3a,
        (0x3f, 4) => 0x0f,
        (0x4f, _) => 0x0b00_0020,
        (0x56, 2) => 0x11,
        (0x56, 3) => 0x0700_000e,
        (0x56, 4) => 0x0f00_000c,
        (0x56, 5) => 0x0e00_0003,
        (0x55, 3) => 0x0100_0136,
        (0x55, 4) => 0x0200_0014,
        (0x3c, _) => 0x22,
        (0x45, _) => 0x20,
        (0x46 | 0x47, _) => 0x17,
        (0x3d, _) => 0x25,
        (0x4e | 0x5e, _) => 0xb2,
        (0x8e | 0x9e, _) => 0x52,
        _ => return None,
    })
}

/// Whether the TSC deadline may come late or never. Under a hypervisor it works, because the hypervisor emulates it.
fn deadline_fails(cpu: &Features, signature: Signature, microcode: u32) -> bool {
    let concerns = cpu.vendor == Vendor::Intel && signature.family == 6 && !cpu.hypervisor;
    concerns
        && deadline_needs(signature.model, signature.stepping)
            .is_some_and(|first| microcode < first)
}

/// Whether this CPU's APIC timer can be given TSC values.
pub fn has_deadline() -> bool {
    let features = cpu::features();
    let signature = cpu::signature(cpu::cpuid(1, 0)[0]);
    if !features.tsc_deadline {
        return false;
    }
    let fails = deadline_fails(&features, signature, microcode());
    if fails {
        log::warn!(
            "time: the TSC deadline is faulty without newer microcode; the APIC timer counts"
        );
    }
    !fails
}

/// The revision of this CPU's microcode, for Intel CPUs (SDM vol. 3 §10.11.7.1).
#[expect(unsafe_code, reason = "writes the register that CPUID fills in")]
pub fn microcode() -> u32 {
    const BIOS_SIGN_ID: u32 = 0x8b;
    // SAFETY: clears the revision, which the CPUID instruction below writes anew.
    unsafe { msr::write_or_ignore(BIOS_SIGN_ID, 0) };
    cpu::cpuid(1, 0);
    (msr::read_safe(BIOS_SIGN_ID).unwrap_or(0) >> 32) as u32
}

/// Disables C1E. On AMD's families 0Fh to 11h it stops the APIC timer when all cores halt, and here a halted CPU has no
/// other source of wake-ups (BKDG, MSRC001_0055, SmiOnCmpHalt and C1eOnCmpHalt).
#[expect(unsafe_code, reason = "turns a sleep state off")]
pub fn stop_c1e() {
    const INTERRUPT_PENDING: u32 = 0xc001_0055;
    const C1E: u64 = 3 << 27;
    let (family, _) = cpu::family_model();
    if cpu::features().vendor != Vendor::Amd || !(0xf..=0x11).contains(&family) {
        return;
    }
    let value = msr::read_safe(INTERRUPT_PENDING).unwrap_or(0);
    if value & C1E != 0 {
        // SAFETY: only keeps CPUs from a deeper sleep state.
        unsafe { msr::write_or_ignore(INTERRUPT_PENDING, value & !C1E) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_microcode_loses_the_deadline() {
        let intel = Features {
            vendor: Vendor::Intel,
            ..Features::default()
        };
        let of = |model, stepping| Signature {
            family: 6,
            model,
            stepping,
        };
        assert!(deadline_fails(&intel, of(0x5e, 3), 0xb1));
        assert!(!deadline_fails(&intel, of(0x5e, 3), 0xb2));
        assert!(deadline_fails(&intel, of(0x3f, 2), 0x39));
        assert!(!deadline_fails(&intel, of(0x3f, 2), 0x3a));
        assert!(!deadline_fails(&intel, of(0x55, 7), 0));
        assert!(!deadline_fails(&intel, of(0x97, 2), 0));
        let below = Features {
            hypervisor: true,
            ..intel
        };
        assert!(!deadline_fails(&below, of(0x5e, 3), 0));
    }
}
