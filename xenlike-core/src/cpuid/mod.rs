//! CPUID: a [`Policy`] for each domain determines the results of emulated CPUID, and what the toolstack sees.
//!
//! [`Policies::new`] derives, from what the CPU itself reports (*raw*), the policies *host* (what the core can offer
//! at all), *pv_max* (what a PV guest could be given) and *pv_default* (what it is given unless the toolstack
//! chooses otherwise). A guest sees its policy through [`guest`], which adds what depends on the vCPU's registers.
//! The rules are Xen's, so that guests and `xl` see what they would see there; the lists of features are those that
//! the public header `arch-x86/cpufeatureset.h` marks.
//!
//! Neighbours: `domain` owns a `Policy` (docs/adr/0004), `emul` answers from it, domctl and sysctl pass it in and out
//! ([`serial`]).
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

pub mod derive;
pub mod features;
pub mod guest;
pub mod serial;
#[cfg(test)]
mod tests;

pub use derive::Policies;

use arrayvec::ArrayVec;
use guest_pv_abi::cpufeatureset::{
    XEN_X86_FEATURE_AVX, XEN_X86_FEATURE_ITSC, XEN_X86_FEATURE_RDPID, XEN_X86_FEATURE_RDTSCP,
    XEN_X86_FEATURE_XSAVE,
};

pub use crate::arch::cpu::Vendor;
pub use crate::arch::cpu::signature;
use crate::arch::{cpu, msr, speculation, time};
use crate::kit::Once;

/// The policies of this machine, derived at the first call.
pub fn machine() -> &'static Policies {
    static MACHINE: Once<Policies> = Once::new();
    MACHINE.call_once(|| {
        let mut raw = Policy::read(|leaf, subleaf| Leaf::new(cpu::cpuid(leaf, subleaf)));
        if cpu::features().cpuid_faulting {
            raw.platform_info = PLATFORM_INFO_CPUID_FAULTING;
        }
        if raw.has(guest_pv_abi::cpufeatureset::XEN_X86_FEATURE_ARCH_CAPS) {
            let caps = msr::read_safe(msr::nr::ARCH_CAPABILITIES).unwrap_or(0);
            raw.arch_caps = [caps as u32, (caps >> 32) as u32];
        }
        let hidden = [
            (XEN_X86_FEATURE_AVX, speculation::hides_avx()),
            (XEN_X86_FEATURE_XSAVE, !cpu::features().xsave),
            (XEN_X86_FEATURE_ITSC, !time::tsc_scale().stable),
        ];
        let hidden: ArrayVec<u32, 3> = hidden
            .into_iter()
            .filter_map(|(feature, is_hidden)| is_hidden.then_some(feature))
            .collect();
        Policies::new(raw, &hidden)
    })
}

/// MSR_PLATFORM_INFO, bit 31: CPUID outside ring 0 can be made to fault.
const PLATFORM_INFO_CPUID_FAULTING: u64 = 1 << 31;

/// The MSRs of a vCPU that only the emulator writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VcpuMsrs {
    /// TSC_AUX (0xc0000103), which is loaded whenever the vCPU runs.
    pub tsc_aux: u32,
    /// MISC_FEATURES_ENABLES (0x140); bit 0 makes CPUID fault in user mode.
    pub misc_features: u64,
}

/// The four registers of one leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leaf {
    /// The value of EAX.
    pub a: u32,
    /// The value of EBX.
    pub b: u32,
    /// The value of ECX.
    pub c: u32,
    /// The value of EDX.
    pub d: u32,
}

impl Leaf {
    /// All registers zero, as for a leaf that doesn't exist.
    pub const ZERO: Self = Self {
        a: 0,
        b: 0,
        c: 0,
        d: 0,
    };

    /// A leaf from its registers in the order EAX, EBX, ECX, EDX.
    pub const fn new([a, b, c, d]: [u32; 4]) -> Self {
        Self { a, b, c, d }
    }
}

/// The number of basic leaves in a policy: 0 to 0xd.
pub const BASIC_LEAVES: usize = 0xe;
/// The number of sub-leaves of leaf 4 in a policy.
pub const CACHE_LEAVES: usize = 6;
/// The number of sub-leaves of leaf 7 in a policy.
pub const FEATURE_LEAVES: usize = 3;
/// The number of sub-leaves of leaf 0xb in a policy.
pub const TOPOLOGY_LEAVES: usize = 2;
/// The number of sub-leaves of leaf 0xd in a policy.
pub const XSTATE_LEAVES: usize = 63;
/// The number of extended leaves in a policy: 0x80000000 to 0x80000021.
pub const EXTENDED_LEAVES: usize = 0x22;
/// The number of extended leaves that are meaningful on Intel: up to 0x80000008.
pub const EXTENDED_LEAVES_INTEL: u32 = 9;
/// The last basic leaf of a policy.
const LAST_BASIC_LEAF: u32 = BASIC_LEAVES as u32 - 1;
/// The last sub-leaf of leaf 7.
const LAST_FEATURE_LEAF: u32 = FEATURE_LEAVES as u32 - 1;
/// The last extended leaf, relative to 0x80000000.
const LAST_EXTENDED_LEAF: u32 = EXTENDED_LEAVES as u32 - 1;
/// The last extended leaf of an Intel CPU, relative to 0x80000000.
const LAST_EXTENDED_LEAF_INTEL: u32 = EXTENDED_LEAVES_INTEL - 1;

/// A CPU as described by its CPUID leaves, and two MSRs that belong to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Leaves 0 to 0xd. Leaves 4, 7, 0xb and 0xd are in the fields below.
    pub basic: [Leaf; BASIC_LEAVES],
    /// Leaf 4, by sub-leaf: caches.
    pub cache: [Leaf; CACHE_LEAVES],
    /// Leaf 7, by sub-leaf: features.
    pub feat: [Leaf; FEATURE_LEAVES],
    /// Leaf 0xb, by sub-leaf: topology.
    pub topo: [Leaf; TOPOLOGY_LEAVES],
    /// Leaf 0xd, by sub-leaf: extended states.
    pub xstate: [Leaf; XSTATE_LEAVES],
    /// Leaves 0x80000000 and up.
    pub ext: [Leaf; EXTENDED_LEAVES],
    /// The number of hypervisor leaves at 0x40000000 that the toolstack wants to be visible; 0 for all.
    pub hypervisor_limit: u32,
    /// The same for leaves at 0x40000100, which PV guests don't have.
    pub hypervisor_limit_2: u32,
    /// MSR_ARCH_CAPABILITIES (0x10a): lower and upper half.
    pub arch_caps: [u32; 2],
    /// MSR_PLATFORM_INFO (0xce); bit 31 reports CPUID faulting.
    pub platform_info: u64,
}

impl Policy {
    /// A policy with all leaves zero.
    pub const EMPTY: Self = Self {
        basic: [Leaf::ZERO; BASIC_LEAVES],
        cache: [Leaf::ZERO; CACHE_LEAVES],
        feat: [Leaf::ZERO; FEATURE_LEAVES],
        topo: [Leaf::ZERO; TOPOLOGY_LEAVES],
        xstate: [Leaf::ZERO; XSTATE_LEAVES],
        ext: [Leaf::ZERO; EXTENDED_LEAVES],
        hypervisor_limit: 0,
        hypervisor_limit_2: 0,
        arch_caps: [0; 2],
        platform_info: 0,
    };

    /// Reads the policy of the CPU; `cpuid` executes the instruction for a leaf and sub-leaf.
    pub fn read(cpuid: impl Fn(u32, u32) -> Leaf) -> Self {
        let mut policy = Self::EMPTY;
        let top = cpuid(0, 0).a;
        let basic = |leaf: u32, subleaf: u32| {
            if leaf <= top {
                cpuid(leaf, subleaf)
            } else {
                Leaf::ZERO
            }
        };
        for (leaf, place) in (0..).zip(policy.basic.iter_mut()) {
            if !matches!(leaf, 4 | 7 | 0xb | 0xd) {
                *place = basic(leaf, 0);
            }
        }
        for (subleaf, place) in (0..).zip(policy.cache.iter_mut()) {
            *place = basic(4, subleaf);
            if place.a & 0x1f == 0 {
                break;
            }
        }
        let last = basic(7, 0).a;
        for (subleaf, place) in (0..=last).zip(policy.feat.iter_mut()) {
            *place = basic(7, subleaf);
        }
        for (subleaf, place) in (0..).zip(policy.topo.iter_mut()) {
            *place = basic(0xb, subleaf);
        }
        policy.read_xstate(&basic);
        let top = cpuid(0x8000_0000, 0).a;
        for (leaf, place) in (0x8000_0000..=top).zip(policy.ext.iter_mut()) {
            *place = cpuid(leaf, 0);
        }
        policy
    }

    fn read_xstate(&mut self, basic: &impl Fn(u32, u32) -> Leaf) {
        const XSAVE: u32 = 1 << 26;
        if self.basic(1).c & XSAVE == 0 {
            return;
        }
        let [zero, one, rest @ ..] = &mut self.xstate;
        // The sizes for the current XCR0 are meaningless in a policy.
        *zero = Leaf {
            b: 0,
            ..basic(0xd, 0)
        };
        *one = Leaf {
            b: 0,
            ..basic(0xd, 1)
        };
        let states = xstates(*zero, *one);
        for (bit, place) in (2..).zip(rest.iter_mut()) {
            if states >> bit & 1 != 0 {
                *place = basic(0xd, bit);
            }
        }
    }

    /// A basic leaf without sub-leaves.
    pub fn basic(&self, leaf: u32) -> Leaf {
        self.basic.get(leaf as usize).copied().unwrap_or(Leaf::ZERO)
    }

    /// An extended leaf, by its number relative to 0x80000000.
    pub fn ext(&self, leaf: u32) -> Leaf {
        self.ext
            .get((leaf & 0xffff) as usize)
            .copied()
            .unwrap_or(Leaf::ZERO)
    }

    /// The vendor of the CPU (leaf 0).
    pub fn vendor(&self) -> Vendor {
        let Leaf { b, c, d, .. } = self.basic[0];
        Vendor::named(b, c, d)
    }

    /// The highest basic leaf.
    pub fn max_basic(&self) -> u32 {
        self.basic[0].a.min(LAST_BASIC_LEAF)
    }
    /// The highest sub-leaf of leaf 7.
    pub fn max_feature_subleaf(&self) -> u32 {
        self.feat[0].a.min(LAST_FEATURE_LEAF)
    }
    /// The highest extended leaf, relative to 0x80000000.
    pub fn max_ext(&self) -> u32 {
        (self.ext[0].a & 0xffff).min(LAST_EXTENDED_LEAF)
    }

    /// The bits of MISC_FEATURES_ENABLES that the guest may set.
    pub fn misc_features_allowed(&self) -> u64 {
        self.platform_info >> 31 & 1
    }
    /// Whether the guest has the MSR TSC_AUX.
    pub fn has_tsc_aux(&self) -> bool {
        self.has(XEN_X86_FEATURE_RDTSCP) || self.has(XEN_X86_FEATURE_RDPID)
    }
    /// The bits of XCR0 that the guest may set.
    pub fn xcr0_mask(&self) -> u64 {
        u64::from(self.xstate[0].a) | u64::from(self.xstate[0].d) << 32
    }
    /// All extended states that the policy describes: those of XCR0 and of XSS.
    pub fn xstates(&self) -> u64 {
        xstates(self.xstate[0], self.xstate[1])
    }

    /// The width of a physical address in bits (leaf 0x80000008).
    pub fn physical_bits(&self) -> u32 {
        self.ext(8).a & 0xff
    }
}

fn xstates(zero: Leaf, one: Leaf) -> u64 {
    u64::from(zero.a | one.c) | u64::from(zero.d | one.d) << 32
}
