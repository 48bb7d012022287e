//! Derives the policies for guests from what the CPU itself reports.

use guest_pv_abi::cpufeatureset::*;

use super::features::{self, COMMON_1D, Featureset, NOT_OFFERED, PV_DEFAULT, PV_MAX};
use super::{
    EXTENDED_LEAVES_INTEL, LAST_BASIC_LEAF, LAST_EXTENDED_LEAF, LAST_EXTENDED_LEAF_INTEL,
    LAST_FEATURE_LEAF, Leaf, Policy, Vendor,
};

/// The x87 and SSE state, which always exist.
const FP_SSE: u64 = 3;
const AVX: u64 = 1 << 2;
const AVX512: u64 = 7 << 5;
/// Leaf 0xd, ECX bit 1 of a state: aligned to 64 bytes in the compact format.
const ALIGN64: u32 = 1 << 1;

/// The policies of this machine.
#[derive(Debug, Clone)]
pub struct Policies {
    /// What the CPU reports.
    pub raw: Policy,
    /// What the core can offer at all.
    pub host: Policy,
    /// The most that a PV guest may be given.
    pub pv_max: Policy,
    /// What a PV guest is given unless the toolstack chooses otherwise.
    pub pv_default: Policy,
}

impl Policies {
    /// Derives all policies from the raw one. `hidden` are features that are offered to no domain.
    pub fn new(raw: Policy, hidden: &[u32]) -> Self {
        let host = host(&raw, hidden);
        let pv_max = pv_max(&raw, &host);
        let pv_default = pv_default(&raw, &host, &pv_max);
        Self {
            raw,
            host,
            pv_max,
            pv_default,
        }
    }

    /// The policy of the hardware domain. It never moves to another machine, so it may know that the TSC is invariant.
    pub fn hardware_domain(&self) -> Policy {
        let mut policy = self.pv_default.clone();
        policy.ext[7].d |= self.host.ext[7].d & 1 << (XEN_X86_FEATURE_ITSC % 32);
        policy
    }

    /// Reduces a policy that the toolstack chose for a PV guest to what the guest may have.
    pub fn clamp(&self, policy: &mut Policy) {
        let max = &self.pv_max;
        policy.basic[0].a = policy.max_basic().min(max.max_basic());
        policy.feat[0].a = policy.max_feature_subleaf().min(max.max_feature_subleaf());
        let last_ext = match policy.vendor() {
            Vendor::Amd => LAST_EXTENDED_LEAF,
            _ => LAST_EXTENDED_LEAF_INTEL,
        };
        policy.ext[0].a = 0x8000_0000 | policy.max_ext().min(last_ext);
        let mut set = policy.featureset();
        features::keep(&mut set, &max.featureset());
        if policy.max_basic() < 0xd {
            features::remove(&mut set, XEN_X86_FEATURE_XSAVE);
        }
        features::drop_orphans(&mut set);
        fold_fpu_quirks(&mut set, &self.host);
        policy.set_featureset(&set);
        // The size of a cache line is that of the machine.
        policy.basic[1].b = policy.basic[1].b & !0xff00 | max.basic[1].b & 0xff00;
        let bits = policy.physical_bits().min(max.physical_bits()).max(36);
        policy.ext[8].a = policy.ext[8].a & 0xff00 | bits;
        derive_xstate(policy, &self.raw);
        derive_misc(policy);
        policy.basic[0xa] = Leaf::ZERO;
        policy.ext[0xa] = Leaf::ZERO;
        policy.hypervisor_limit_2 = 0;
        policy.platform_info &= max.platform_info;
    }
}

fn host(raw: &Policy, hidden: &[u32]) -> Policy {
    let mut policy = raw.clone();
    policy.basic[0].a = raw.max_basic();
    policy.feat[0].a = raw.max_feature_subleaf();
    policy.ext[0].a = 0x8000_0000 | raw.max_ext();
    let mut set = raw.featureset();
    if raw.vendor() == Vendor::Amd {
        // On AMD, SYSENTER doesn't exist in long mode (APM vol. 3, SYSENTER).
        features::remove(&mut set, XEN_X86_FEATURE_SEP);
    }
    for feature in hidden {
        features::remove(&mut set, *feature);
    }
    features::drop_orphans(&mut set);
    if raw.vendor() == Vendor::Intel && !returns_are_safe(raw) {
        // Old microcode doesn't report this.
        features::add(&mut set, alternate_predictor(raw));
    }
    policy.set_featureset(&set);
    derive_xstate(&mut policy, raw);
    derive_misc(&mut policy);
    policy.basic[0xa] = Leaf::ZERO;
    policy
}

/// Whether returns are predicted by nothing but the return stack buffer, on which retpolines rely. That holds for
/// family 6 up to Haswell, and for its small cores (Intel, "Retpoline: a branch target injection mitigation", 5.3).
fn returns_are_safe(raw: &Policy) -> bool {
    let signature = super::signature(raw.basic(1).a);
    signature.family == 6
        && matches!(signature.model, 0x0f | 0x16 | 0x17 | 0x1a | 0x1c..=0x1f | 0x25..=0x27 | 0x2a | 0x2c..=0x2f
            | 0x35..=0x37 | 0x3a | 0x3c | 0x3e | 0x3f | 0x45 | 0x46 | 0x4a | 0x4c | 0x4d | 0x57 | 0x5a | 0x5c | 0x5d
            | 0x5f | 0x75 | 0x7a | 0x85)
}

/// The feature by which such a CPU reports other predictors for returns: always, or where IBRS doesn't prevent it.
fn alternate_predictor(raw: &Policy) -> u32 {
    if raw.has(XEN_X86_FEATURE_EIBRS) {
        XEN_X86_FEATURE_RRSBA
    } else {
        XEN_X86_FEATURE_RSBA
    }
}

fn pv_max(raw: &Policy, host: &Policy) -> Policy {
    let mut policy = host.clone();
    policy.basic[0].a = LAST_BASIC_LEAF;
    policy.feat[0].a = LAST_FEATURE_LEAF;
    policy.ext[0].a = 0x8000_0000 | LAST_EXTENDED_LEAF;
    let mut set = host.featureset();
    features::keep(&mut set, &PV_MAX);
    offer(&mut set, host);
    // The toolstack chooses the features that only say how to interpret other leaves.
    for feature in [
        XEN_X86_FEATURE_HTT,
        XEN_X86_FEATURE_CMP_LEGACY,
        XEN_X86_FEATURE_X2APIC,
    ] {
        features::add(&mut set, feature);
    }
    features::drop_orphans(&mut set);
    fold_fpu_quirks(&mut set, host);
    policy.set_featureset(&set);
    derive_xstate(&mut policy, raw);
    derive_misc(&mut policy);
    policy.ext[0xa] = Leaf::ZERO;
    policy
}

fn pv_default(raw: &Policy, host: &Policy, max: &Policy) -> Policy {
    let mut policy = max.clone();
    policy.basic[0].a = host.max_basic();
    policy.feat[0].a = host.max_feature_subleaf();
    let last_ext = match host.vendor() {
        Vendor::Amd => LAST_EXTENDED_LEAF,
        _ => LAST_EXTENDED_LEAF_INTEL,
    };
    policy.ext[0].a = 0x8000_0000 | host.max_ext().min(last_ext);
    let mut set = max.featureset();
    features::keep(&mut set, &PV_DEFAULT);
    offer(&mut set, host);
    for feature in [XEN_X86_FEATURE_HTT, XEN_X86_FEATURE_CMP_LEGACY] {
        if !host.has(feature) {
            features::remove(&mut set, feature);
        }
    }
    features::drop_orphans(&mut set);
    fold_fpu_quirks(&mut set, host);
    policy.set_featureset(&set);
    derive_xstate(&mut policy, raw);
    derive_misc(&mut policy);
    policy
}

/// Adds and removes the features that don't depend on the masks.
fn offer(set: &mut Featureset, host: &Policy) {
    features::add(set, XEN_X86_FEATURE_HYPERVISOR);
    NOT_OFFERED
        .iter()
        .for_each(|&feature| features::remove(set, feature));
    // The barrier alone can be offered without the rest of SPEC_CTRL.
    if host.has(XEN_X86_FEATURE_IBRSB) {
        features::add(set, XEN_X86_FEATURE_IBPB);
    }
    if host.vendor() == Vendor::Intel {
        features::add(set, XEN_X86_FEATURE_ARCH_CAPS);
        for feature in [XEN_X86_FEATURE_RSBA, XEN_X86_FEATURE_RRSBA] {
            if host.has(feature) {
                features::add(set, feature);
            }
        }
    } else if !host.has(XEN_X86_FEATURE_ARCH_CAPS) {
        set[16] = 0;
        set[17] = 0;
    }
}

/// Sets the two features about how the FPU reports data pointers as on the machine, because they can't be hidden.
fn fold_fpu_quirks(set: &mut Featureset, host: &Policy) {
    for feature in [XEN_X86_FEATURE_FDP_EXCP_ONLY, XEN_X86_FEATURE_NO_FPU_SEL] {
        if host.has(feature) {
            features::add(set, feature);
        } else {
            features::remove(set, feature);
        }
    }
}

/// Derives leaf 0xd from the features; the size and offset of each state come from the machine.
fn derive_xstate(policy: &mut Policy, raw: &Policy) {
    let instructions = policy.xstate[1].a;
    policy.xstate = [Leaf::ZERO; super::XSTATE_LEAVES];
    if !policy.has(XEN_X86_FEATURE_XSAVE) {
        return;
    }
    let mut states = FP_SSE;
    if policy.has(XEN_X86_FEATURE_AVX) {
        states |= AVX;
    }
    if policy.has(XEN_X86_FEATURE_AVX512F) {
        states |= AVX512;
    }
    states &= raw.xcr0_mask() | FP_SSE;
    policy.xstate[1].a = instructions;
    let attributes = if policy.has(XEN_X86_FEATURE_XSAVEC) {
        ALIGN64
    } else {
        0
    };
    for (bit, (leaf, raw)) in policy
        .xstate
        .iter_mut()
        .zip(&raw.xstate)
        .enumerate()
        .skip(2)
    {
        if states >> bit & 1 != 0 {
            *leaf = Leaf {
                a: raw.a,
                b: raw.b,
                c: raw.c & attributes,
                d: 0,
            };
        }
    }
    policy.xstate[0] = Leaf {
        a: states as u32,
        b: 0,
        c: policy.xstate_bytes(states),
        d: (states >> 32) as u32,
    };
}

/// Clears leaves that guests don't get, reserved bits, and bits that repeat others.
fn derive_misc(policy: &mut Policy) {
    policy.basic[1].a &= 0x0fff_0fff;
    policy.basic[1].b &= 0x00ff_ffff;
    // MONITOR, thermal and power management, and reserved leaves.
    for leaf in [5, 6, 8, 0xc] {
        if let Some(leaf) = policy.basic.get_mut(leaf) {
            *leaf = Leaf::ZERO;
        }
    }
    policy.topo = [Leaf::ZERO; super::TOPOLOGY_LEAVES];
    policy.ext[1].d &= !COMMON_1D;
    policy.ext[7] = Leaf {
        d: policy.ext[7].d,
        ..Leaf::ZERO
    };
    policy.ext[8].d = 0;
    // Four levels of page tables: linear addresses of 48 bits, whatever the machine supports.
    policy.ext[8].a = policy.ext[8].a & 0xff | 48 << 8;
    match policy.vendor() {
        Vendor::Intel => derive_misc_intel(policy),
        Vendor::Amd => derive_misc_amd(policy),
        Vendor::Other => {}
    }
}

fn derive_misc_intel(policy: &mut Policy) {
    for leaf in policy.ext.iter_mut().skip(EXTENDED_LEAVES_INTEL as usize) {
        *leaf = Leaf::ZERO;
    }
    // Leaf 2 is complete after one query; the serial number and direct cache access are hidden.
    policy.basic[2].a = policy.basic[2].a & !0xff | 1;
    policy.basic[3] = Leaf::ZERO;
    policy.basic[9] = Leaf::ZERO;
    policy.ext[0] = Leaf {
        a: policy.ext[0].a,
        ..Leaf::ZERO
    };
    (policy.ext[1].a, policy.ext[1].b) = (0, 0);
    policy.ext[5] = Leaf::ZERO;
    policy.ext[6] = Leaf {
        c: policy.ext[6].c,
        ..Leaf::ZERO
    };
    policy.ext[8].c = 0;
}

fn derive_misc_amd(policy: &mut Policy) {
    policy.basic[2] = Leaf::ZERO;
    policy.basic[3] = Leaf::ZERO;
    policy.basic[9] = Leaf::ZERO;
    policy.basic[0xa] = Leaf::ZERO;
    policy.cache = [Leaf::ZERO; super::CACHE_LEAVES];
    let maker = policy.basic[0];
    policy.ext[0] = Leaf {
        a: policy.ext[0].a,
        ..maker
    };
    policy.ext[1].a = policy.basic[1].a;
    policy.ext[1].b &= 0xff00_ffff;
    policy.ext[1].d |= policy.basic[1].d & COMMON_1D;
    policy.ext[8].c &= 0x0003_f0ff;
    policy.ext[9] = Leaf::ZERO;
    // Unused leaves; then those from instruction based sampling to quality of service, all hidden.
    for leaf in (0xb..=0x18).chain(0x1b..=0x20) {
        if let Some(leaf) = policy.ext.get_mut(leaf) {
            *leaf = Leaf::ZERO;
        }
    }
    policy.ext[0x21] = Leaf {
        a: policy.ext[0x21].a,
        c: policy.ext[0x21].c,
        ..Leaf::ZERO
    };
}
