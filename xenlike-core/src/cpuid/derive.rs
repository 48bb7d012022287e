//! From what the CPU says to what guests may see.

use guest_pv_abi::cpufeatureset::*;

use super::features::{self, COMMON_1D, Featureset, NOT_OFFERED, PV_DEFAULT, PV_MAX};
use super::{
    EXTENDED_LEAVES_INTEL, LAST_BASIC_LEAF, LAST_EXTENDED_LEAF, LAST_EXTENDED_LEAF_INTEL,
    LAST_FEATURE_LEAF, Leaf, Policy, Vendor,
};

/// x87 and SSE state: always there.
const FP_SSE: u64 = 3;
const AVX: u64 = 1 << 2;
const AVX512: u64 = 7 << 5;
/// Leaf 0xd: sub-leaf ECX bit 1, "aligned to 64 in the compact format".
const ALIGN64: u32 = 1 << 1;

/// The machine's policies.
#[derive(Debug, Clone)]
pub struct Policies {
    /// What the CPU says.
    pub raw: Policy,
    /// What the core can offer.
    pub host: Policy,
    /// The most that a PV guest may be given.
    pub pv_max: Policy,
    /// What a PV guest is given.
    pub pv_default: Policy,
}

impl Policies {
    /// All policies from the raw one. `hidden`: features that the core uses but offers to nobody.
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

    /// The hardware domain's: it never moves to another machine, so it may know that the TSC is invariant.
    pub fn hardware_domain(&self) -> Policy {
        let mut policy = self.pv_default.clone();
        policy.ext[7].d |= self.host.ext[7].d & 1 << (XEN_X86_FEATURE_ITSC % 32);
        policy
    }

    /// Clamps a policy that the toolstack chose for a PV guest to what the guest may have.
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
        // The cache line's size is the machine's.
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
        // SYSENTER does not exist in long mode there (APM vol. 3, SYSENTER).
        features::remove(&mut set, XEN_X86_FEATURE_SEP);
    }
    for feature in hidden {
        features::remove(&mut set, *feature);
    }
    features::drop_orphans(&mut set);
    if raw.vendor() == Vendor::Intel && !returns_are_safe(raw) {
        // Old microcode doesn't say so.
        features::add(&mut set, alternate_predictor(raw));
    }
    policy.set_featureset(&set);
    derive_xstate(&mut policy, raw);
    derive_misc(&mut policy);
    policy.basic[0xa] = Leaf::ZERO;
    policy
}

/// Whether returns are never predicted by anything but the return stack, which retpolines rely on: family 6 up to
/// Haswell, and its small cores (Intel, "Retpoline: a branch target injection mitigation", 5.3).
fn returns_are_safe(raw: &Policy) -> bool {
    let signature = super::signature(raw.basic(1).a);
    signature.family == 6
        && matches!(signature.model, 0x0f | 0x16 | 0x17 | 0x1a | 0x1c..=0x1f | 0x25..=0x27 | 0x2a | 0x2c..=0x2f
            | 0x35..=0x37 | 0x3a | 0x3c | 0x3e | 0x3f | 0x45 | 0x46 | 0x4a | 0x4c | 0x4d | 0x57 | 0x5a | 0x5c | 0x5d
            | 0x5f | 0x75 | 0x7a | 0x85)
}

/// How such a CPU says that something else predicts returns: always, or where IBRS doesn't keep it from that.
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
    // What only says how to read other leaves is the toolstack's choice.
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

/// What guests get or don't get whatever the masks say.
fn offer(set: &mut Featureset, host: &Policy) {
    features::add(set, XEN_X86_FEATURE_HYPERVISOR);
    NOT_OFFERED
        .iter()
        .for_each(|&feature| features::remove(set, feature));
    // The barrier alone can be had without the rest of SPEC_CTRL.
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

/// How the machine's FPU reports data pointers can't be hidden.
fn fold_fpu_quirks(set: &mut Featureset, host: &Policy) {
    for feature in [XEN_X86_FEATURE_FDP_EXCP_ONLY, XEN_X86_FEATURE_NO_FPU_SEL] {
        if host.has(feature) {
            features::add(set, feature);
        } else {
            features::remove(set, feature);
        }
    }
}

/// Leaf 0xd follows from the features, but for what a state's size and place are.
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

/// Leaves that guests don't get, reserved bits, and bits that repeat others.
fn derive_misc(policy: &mut Policy) {
    policy.basic[1].a &= 0x0fff_0fff;
    policy.basic[1].b &= 0x00ff_ffff;
    // MONITOR, thermal and power management, and what is reserved.
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
    // Four levels of page tables: 48 bits of linear address, whatever the machine could.
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
    // One query of leaf 2; serial number and direct cache access hidden.
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
    // Nothing there; then instruction based sampling to quality of service, all hidden.
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
