//! What a CPU says of itself that bears on speculation.

use crate::arch::cpu::{self, Vendor};
use crate::arch::msr;

/// Bits of IA32_ARCH_CAPABILITIES (SDM vol. 4, MSR 0x10a).
pub mod caps {
    /// Open neither to Meltdown nor to L1 terminal fault.
    pub const RDCL_NO: u64 = 1;
}

/// The facts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Who made it.
    pub vendor: Vendor,
    /// Family, model and stepping, with the extended fields (SDM vol. 2, CPUID leaf 1).
    pub family: u32,
    /// Likewise.
    pub model: u32,
    /// Likewise.
    pub stepping: u32,
    /// Width of a physical address in bits.
    pub phys_bits: u8,
    /// IA32_ARCH_CAPABILITIES, 0 where there is none.
    pub caps: u64,
}

/// CPUID leaf 7: the CPU has IA32_ARCH_CAPABILITIES.
const ARCH_CAPS: u32 = 1 << 29;

impl Facts {
    /// Asks this CPU.
    pub fn ask() -> Self {
        let features = cpu::features();
        let [signature, ..] = cpu::cpuid(1, 0);
        let leaf7 = match features.max_leaf {
            7.. => cpu::cpuid(7, 0),
            _ => [0; 4],
        };
        let (family, model, stepping) = model_of(signature);
        Self {
            vendor: features.vendor,
            family,
            model,
            stepping,
            phys_bits: features.phys_bits,
            caps: match leaf7[3] & ARCH_CAPS {
                0 => 0,
                _ => msr::read_safe(msr::nr::ARCH_CAPABILITIES).unwrap_or(0),
            },
        }
    }
}

/// Family, model and stepping from CPUID leaf 1's EAX.
const fn model_of(signature: u32) -> (u32, u32, u32) {
    let (family, model) = (signature >> 8 & 0xf, signature >> 4 & 0xf);
    let extended = model | (signature >> 16 & 0xf) << 4;
    let stepping = signature & 0xf;
    match family {
        0xf => (0xf + (signature >> 20 & 0xff), extended, stepping),
        6 => (6, extended, stepping),
        _ => (family, model, stepping),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        assert_eq!(model_of(0x0005_0654), (6, 0x55, 4));
        assert_eq!(model_of(0x0087_0f10), (0x17, 0x71, 0));
        assert_eq!(model_of(0x0000_0f29), (0xf, 2, 9));
    }
}
