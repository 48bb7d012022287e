//! Which CPUs have which speculation bug. The models are those that Intel and Xen name.

use core::fmt;

use super::facts::{Facts, caps, ext8b, ext21a, ext21c, leaf7b};
use crate::arch::cpu::Vendor;

/// The bugs against which the core does something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bugs {
    /// Ring 3 can read ring 0's memory (Meltdown).
    pub meltdown: bool,
    /// A non-present page-table entry lets the cache line at its address be read (L1 terminal fault).
    pub l1tf: bool,
    /// Data that passes through the CPU's buffers can be sampled (MDS, TAA, RFDS).
    pub mds: bool,
    /// Ring 3 can steer where ring 0's returns speculate, with or without IBRS (AMD: branch type confusion, known as
    /// Retbleed, and speculative return stack overflow, SRSO).
    pub returns: bool,
    /// The history of ring 3's branches steers ring 0's predictions, although IBRS is always on (BHI).
    pub history: bool,
    /// Data that loads and stores leave in the scheduler can be inferred (AMD: TSA).
    pub tsa: bool,
    /// Gathers reveal old contents of vector registers (GDS), and the microcode has no mitigation.
    pub gather: bool,
    /// The return stack buffer stores fewer bits than an address has, so SMEP doesn't protect it.
    pub narrow_rsb: bool,
}

/// In-order cores, which don't speculate that far: Bonnell and Saltwell.
const IN_ORDER: [u32; 5] = [0x1c, 0x26, 0x27, 0x35, 0x36];
/// Atoms from Silvermont to Goldmont Plus, and the Knights built of them: partly open to Meltdown, but
/// not to L1 terminal fault.
const ATOMS: [u32; 10] = [0x37, 0x4a, 0x4c, 0x4d, 0x5a, 0x5c, 0x5f, 0x7a, 0x57, 0x85];
/// Cores from Nehalem to Westmere, whose first-level cache looks at 44 address bits.
const NEHALEM: [u32; 7] = [0x1a, 0x1e, 0x1f, 0x25, 0x2c, 0x2e, 0x2f];
/// Penryn and Dunnington, whose first-level cache looks at as many bits as CPUID reports.
const PENRYN: [u32; 2] = [0x17, 0x1d];

/// Cores from Skylake to Rocket Lake, whose gathers read stale vector registers.
const GATHER: [u32; 14] = [
    0x4e, 0x5e, 0x55, 0x8e, 0x9e, 0xa5, 0xa6, 0x7d, 0x7e, 0x6a, 0x6c, 0x8c, 0x8d, 0xa7,
];
/// AMD's families from Zen 1 to Zen 4, and Hygon's.
const ZEN_1_TO_4: [u32; 3] = [0x17, 0x18, 0x19];

/// Silvermont and Airmont, whose return stack buffer is narrow.
const NARROW_RSB: [u32; 9] = [0x37, 0x4a, 0x4c, 0x4d, 0x5a, 0x5d, 0x65, 0x6e, 0x75];
/// Goldmont and Goldmont Plus: the Atoms whose buffers can't be sampled.
const GOLDMONT: [u32; 3] = [0x5c, 0x5f, 0x7a];

/// Whether the buffers of an Intel CPU of family 6 can be sampled.
fn samples(cpu: &Facts) -> bool {
    let has = |caps| cpu.caps & caps != 0;
    let steppings_before = match cpu.model {
        model if IN_ORDER.contains(&model) || GOLDMONT.contains(&model) => 0,
        0x55 => 6,
        0x8e => 0xc,
        0x9e => 0xd,
        _ => u32::MAX,
    };
    let mds = !has(caps::MDS_NO) && cpu.stepping < steppings_before;
    let taa = cpu.leaf7b & leaf7b::RTM != 0 && has(caps::MDS_NO) && !has(caps::TAA_NO);
    mds || taa || has(caps::RFDS_CLEAR)
}

impl Bugs {
    /// The bugs of a CPU with these facts.
    pub fn of(cpu: &Facts) -> Self {
        let intel6 = cpu.vendor == Vendor::Intel && cpu.family == 6;
        let is = |models: &[u32]| intel6 && models.contains(&cpu.model);
        let has = |caps| cpu.caps & caps != 0;
        let zen = cpu.vendor == Vendor::Amd && ZEN_1_TO_4.contains(&cpu.family);
        let tsa_no = ext21c::TSA_SQ_NO | ext21c::TSA_L1_NO;
        let spared = cpu.caps & caps::RDCL_NO != 0 || is(&IN_ORDER);
        Self {
            meltdown: cpu.vendor != Vendor::Amd && !spared,
            l1tf: intel6 && !spared && !is(&ATOMS),
            mds: intel6 && samples(cpu),
            returns: zen && !(cpu.ext8b & ext8b::BTC_NO != 0 && cpu.ext21a & ext21a::SRSO_NO != 0),
            history: intel6 && has(caps::IBRS_ALL) && !has(caps::BHI_NO),
            tsa: zen && cpu.family == 0x19 && cpu.ext21c & tsa_no != tsa_no,
            gather: is(&GATHER) && !has(caps::GDS_NO | caps::GDS_CTRL),
            narrow_rsb: is(&NARROW_RSB),
        }
    }
}

/// Formats the bugs for the boot messages.
impl fmt::Display for Bugs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.meltdown, "Meltdown"),
            (self.l1tf, "L1TF"),
            (self.mds, "MDS"),
            (self.returns, "Retbleed or SRSO"),
            (self.history, "BHI"),
            (self.tsa, "TSA"),
            (self.gather, "GDS"),
        ];
        let mut between = "this CPU is open to ";
        for (_, name) in parts.iter().filter(|(open, _)| *open) {
            write!(f, "{between}{name}")?;
            between = ", ";
        }
        if parts.iter().all(|(open, _)| !open) {
            f.write_str("this CPU is open to neither Meltdown nor L1TF nor MDS")?;
        }
        Ok(())
    }
}

/// The first address at which L1 terminal fault reveals nothing, and the mask of address bits that the first-level
/// cache looks at (Intel's paper on L1 terminal fault). From `cacheable_end` on there is no memory.
///
/// If the cache looks at more bits than addresses have, any of the excess bits makes an address safe. Otherwise the
/// upper quarter of the address space is used, as far as it contains no memory.
pub fn l1tf_safe_from(cpu: &Facts, cacheable_end: u64) -> (u64, u64) {
    let bits = cpu.phys_bits.clamp(32, 52);
    let cache_bits = match cpu.model {
        _ if cpu.vendor != Vendor::Intel || cpu.family != 6 => bits,
        model if NEHALEM.contains(&model) => bits.max(44),
        model if PENRYN.contains(&model) => bits,
        model if CORES.contains(&model) => bits.max(46),
        _ => bits,
    };
    let start = if cache_bits > bits {
        1 << bits
    } else {
        3 << (bits - 2)
    };
    (start.max(cacheable_end), (1 << cache_bits) - 1)
}

/// Cores from Sandy Bridge to Kaby Lake, whose first-level cache looks at 46 bits.
const CORES: [u32; 18] = [
    0x2a, 0x2d, 0x3a, 0x3e, 0x3c, 0x3f, 0x45, 0x46, 0x3d, 0x47, 0x4f, 0x56, 0x4e, 0x55, 0x5e, 0x66,
    0x8e, 0x9e,
];

#[cfg(test)]
mod tests;
