//! What a CPU reports about itself that bears on speculation: CPUID bits and IA32_ARCH_CAPABILITIES.

use crate::arch::cpu::{self, Signature, Vendor};
use crate::arch::msr;

/// Bits of IA32_ARCH_CAPABILITIES (SDM vol. 4, MSR 0x10a).
pub mod caps {
    /// The CPU is open neither to Meltdown nor to L1 terminal fault.
    pub const RDCL_NO: u64 = 1;
    /// IBRS may be left enabled for good.
    pub const IBRS_ALL: u64 = 1 << 1;
    /// The CPU's buffers can't be sampled (MDS).
    pub const MDS_NO: u64 = 1 << 5;
    /// Aborted transactions don't expose buffers (TAA).
    pub const TAA_NO: u64 = 1 << 8;
    /// Branch history can't be injected (BHI).
    pub const BHI_NO: u64 = 1 << 20;
    /// The microcode mitigates GDS, unless it is told not to.
    pub const GDS_CTRL: u64 = 1 << 25;
    /// The CPU is not open to GDS.
    pub const GDS_NO: u64 = 1 << 26;
    /// VERW clears the register file, on a CPU that needs it (RFDS).
    pub const RFDS_CLEAR: u64 = 1 << 28;
}

/// Bits of CPUID leaf 7, EBX (SDM vol. 2).
pub mod leaf7b {
    /// The CPU has restricted transactional memory (TSX).
    pub const RTM: u32 = 1 << 11;
}

/// Bits of CPUID leaf 7, EDX (SDM vol. 2).
pub mod leaf7d {
    /// VERW clears the CPU's buffers.
    pub const MD_CLEAR: u32 = 1 << 10;
    /// SPEC_CTRL has IBRS, and PRED_CMD has IBPB.
    pub const IBRSB: u32 = 1 << 26;
    /// SPEC_CTRL has STIBP: no predictions from the sibling thread.
    pub const STIBP: u32 = 1 << 27;
    /// The CPU has IA32_ARCH_CAPABILITIES.
    pub const ARCH_CAPS: u32 = 1 << 29;
    /// SPEC_CTRL has SSBD: no speculative store bypass.
    pub const SSBD: u32 = 1 << 31;
}

/// Bits of CPUID leaf 0x80000008, EBX (APM vol. 3).
pub mod ext8b {
    /// PRED_CMD has IBPB: a barrier for indirect branches.
    pub const IBPB: u32 = 1 << 12;
    /// SPEC_CTRL has IBRS: restricted indirect branches.
    pub const IBRS: u32 = 1 << 14;
    /// SPEC_CTRL has STIBP: no predictions from the sibling thread.
    pub const STIBP: u32 = 1 << 15;
    /// IBRS may be left enabled for good.
    pub const IBRS_ALWAYS: u32 = 1 << 16;
    /// STIBP is best left enabled for good.
    pub const STIBP_ALWAYS: u32 = 1 << 17;
    /// SSBD is a bit of SPEC_CTRL.
    pub const SSBD: u32 = 1 << 24;
    /// SPEC_CTRL has PSFD: no predictive store forwarding.
    pub const PSFD: u32 = 1 << 28;
    /// The CPU never takes a branch for one of another type (Retbleed).
    pub const BTC_NO: u32 = 1 << 29;
}

/// Bits of CPUID leaf 0x80000021, EAX (APM vol. 3, and AMD's papers on the bugs).
pub mod ext21a {
    /// VERW clears the state that transient scheduler attacks (TSA) observe.
    pub const VERW_CLEAR: u32 = 1 << 5;
    /// A bit of EFER has the effect of IBRS, without a write at each entry.
    pub const AUTO_IBRS: u32 = 1 << 8;
    /// The CPU is not open to speculative return stack overflow (SRSO).
    pub const SRSO_NO: u32 = 1 << 29;
}

/// Bits of CPUID leaf 0x80000021, ECX (AMD's paper on transient scheduler attacks).
pub mod ext21c {
    /// The CPU is not open to TSA through the store queue.
    pub const TSA_SQ_NO: u32 = 1 << 1;
    /// The CPU is not open to TSA through the first-level cache.
    pub const TSA_L1_NO: u32 = 1 << 2;
}

/// CPUID leaf 7, subleaf 2, EDX: SPEC_CTRL has BHI_DIS_S.
pub const BHI_CTRL: u32 = 1 << 4;

/// What a CPU reports about itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// The vendor of the CPU.
    pub vendor: Vendor,
    /// The family, with the extended family added (SDM vol. 2, CPUID leaf 1).
    pub family: u32,
    /// The model, with the extended model in bits 7 to 4.
    pub model: u32,
    /// The stepping: the revision of the model.
    pub stepping: u32,
    /// The width of a physical address in bits.
    pub phys_bits: u8,
    /// IA32_ARCH_CAPABILITIES, or 0 if the CPU doesn't have it.
    pub caps: u64,
    /// CPUID leaf 7, EBX: bits of [`leaf7b`].
    pub leaf7b: u32,
    /// CPUID leaf 7, EDX: bits of [`leaf7d`].
    pub leaf7d: u32,
    /// CPUID leaf 0x80000008, EBX: bits of [`ext8b`].
    pub ext8b: u32,
    /// CPUID leaf 7, subleaf 2, EDX: [`BHI_CTRL`].
    pub leaf72d: u32,
    /// CPUID leaf 0x80000021, EAX: bits of [`ext21a`].
    pub ext21a: u32,
    /// CPUID leaf 0x80000021, ECX: bits of [`ext21c`].
    pub ext21c: u32,
    /// Whether ring 0 can neither execute user pages nor speculate into them.
    pub smep: bool,
}

impl Facts {
    /// Asks the CPU on which it is called.
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
        let Signature {
            family,
            model,
            stepping,
        } = cpu::signature(signature);
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
