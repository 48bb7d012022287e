//! What a CPU says of itself that bears on speculation.

use crate::arch::cpu::{self, Vendor};
use crate::arch::msr;

/// Bits of IA32_ARCH_CAPABILITIES (SDM vol. 4, MSR 0x10a).
pub mod caps {
    /// Open neither to Meltdown nor to L1 terminal fault.
    pub const RDCL_NO: u64 = 1;
    /// IBRS may be left on for good.
    pub const IBRS_ALL: u64 = 1 << 1;
    /// Not open to the sampling of its buffers.
    pub const MDS_NO: u64 = 1 << 5;
    /// Not open to that by aborted transactions.
    pub const TAA_NO: u64 = 1 << 8;
    /// Not open to the injection of branch history.
    pub const BHI_NO: u64 = 1 << 20;
    /// The microcode keeps gathers from giving data away, unless told not to.
    pub const GDS_CTRL: u64 = 1 << 25;
    /// Not open to that.
    pub const GDS_NO: u64 = 1 << 26;
    /// VERW clears the register file of a CPU that needs it.
    pub const RFDS_CLEAR: u64 = 1 << 28;
}

/// Bits of CPUID leaf 7: EBX.
pub mod leaf7b {
    /// Restricted transactional memory.
    pub const RTM: u32 = 1 << 11;
}

/// Bits of CPUID leaf 7: EDX (SDM vol. 2).
pub mod leaf7d {
    /// VERW clears buffers.
    pub const MD_CLEAR: u32 = 1 << 10;
    /// IBRS and IBPB.
    pub const IBRSB: u32 = 1 << 26;
    /// STIBP.
    pub const STIBP: u32 = 1 << 27;
    /// There is IA32_ARCH_CAPABILITIES.
    pub const ARCH_CAPS: u32 = 1 << 29;
    /// SSBD.
    pub const SSBD: u32 = 1 << 31;
}

/// Bits of CPUID leaf 0x80000008: EBX (APM vol. 3).
pub mod ext8b {
    /// IBPB.
    pub const IBPB: u32 = 1 << 12;
    /// IBRS.
    pub const IBRS: u32 = 1 << 14;
    /// STIBP.
    pub const STIBP: u32 = 1 << 15;
    /// IBRS may be left on for good.
    pub const IBRS_ALWAYS: u32 = 1 << 16;
    /// STIBP is better left on for good.
    pub const STIBP_ALWAYS: u32 = 1 << 17;
    /// SSBD, in SPEC_CTRL.
    pub const SSBD: u32 = 1 << 24;
    /// PSFD.
    pub const PSFD: u32 = 1 << 28;
    /// A branch is not taken for one of another type.
    pub const BTC_NO: u32 = 1 << 29;
}

/// Bits of CPUID leaf 0x80000021: EAX (APM vol. 3, and AMD's papers on the faults).
pub mod ext21a {
    /// VERW clears what transient scheduler attacks look at.
    pub const VERW_CLEAR: u32 = 1 << 5;
    /// A bit of EFER does what IBRS does, without a write at each entry.
    pub const AUTO_IBRS: u32 = 1 << 8;
    /// Not open to speculative return stack overflow.
    pub const SRSO_NO: u32 = 1 << 29;
}

/// Bits of CPUID leaf 0x80000021: ECX (AMD's paper on transient scheduler attacks).
pub mod ext21c {
    /// Not open to those by the store queue.
    pub const TSA_SQ_NO: u32 = 1 << 1;
    /// Not open to those by the first-level cache.
    pub const TSA_L1_NO: u32 = 1 << 2;
}

/// CPUID leaf 7, sub-leaf 2, EDX: SPEC_CTRL has BHI_DIS_S.
pub const BHI_CTRL: u32 = 1 << 4;

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
    /// CPUID leaf 7: EBX and EDX.
    pub leaf7b: u32,
    /// Likewise.
    pub leaf7d: u32,
    /// CPUID leaf 0x80000008: EBX.
    pub ext8b: u32,
    /// CPUID leaf 7, sub-leaf 2: EDX.
    pub leaf72d: u32,
    /// CPUID leaf 0x80000021: EAX and ECX.
    pub ext21a: u32,
    /// Likewise.
    pub ext21c: u32,
    /// Ring 0 can't run, nor be led to run, user pages.
    pub smep: bool,
}

impl Facts {
    /// Asks this CPU.
    pub fn ask() -> Self {
        let features = cpu::features();
        let [signature, ..] = cpu::cpuid(1, 0);
        let leaf7 = match features.max_leaf {
            7.. => cpu::cpuid(7, 0),
            _ => [0; 4],
        };
        let leaf72 = match leaf7[0] {
            2.. => cpu::cpuid(7, 2),
            _ => [0; 4],
        };
        let extended = |leaf| match features.max_ext_leaf {
            max if max >= leaf => cpu::cpuid(leaf, 0),
            _ => [0; 4],
        };
        let (family, model, stepping) = model_of(signature);
        Self {
            vendor: features.vendor,
            family,
            model,
            stepping,
            phys_bits: features.phys_bits,
            caps: match leaf7[3] & leaf7d::ARCH_CAPS {
                0 => 0,
                _ => msr::read_safe(msr::nr::ARCH_CAPABILITIES).unwrap_or(0),
            },
            leaf7b: leaf7[1],
            leaf7d: leaf7[3],
            ext8b: extended(0x8000_0008)[1],
            leaf72d: leaf72[3],
            ext21a: extended(0x8000_0021)[0],
            ext21c: extended(0x8000_0021)[2],
            smep: features.smep,
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
