//! Features as bits: the words of a featureset (`arch-x86/cpufeatureset.h`), the features that PV guests may have, and
//! the dependencies between features.

use guest_pv_abi::cpufeatureset::*;

use super::Policy;

/// The feature words of a policy, in the order of the public header.
pub type Featureset = [u32; FEATURESET_WORDS];

/// The features that the header marks for all guests (`A`, `a`): the most that a PV guest may have.
pub const PV_MAX: Featureset = [
    0x1fc9_cbf5,
    0xf6d8_3203,
    0xea50_0800,
    0x4421_09e3,
    0x7,
    0xf1af_0b39,
    0x1a40_5f43,
    0x100,
    0x6400_1005,
    0xac81_4510,
    0x0080_1cb7,
    0x781c_0c65,
    0,
    0x21,
    0,
    0x4430,
    0x1d12_e173,
    0x4000_0000,
    0x6,
];

/// The features that the header marks for all guests by default (`A`).
pub const PV_DEFAULT: Featureset = [
    0x1fc9_cbf5,
    0xf6d8_3203,
    0xea50_0800,
    0x4421_09e3,
    0x7,
    0xf1af_0b29,
    0x0240_5f43,
    0,
    0x6400_1005,
    0xac80_4410,
    0x0080_1c37,
    0x781c_0c65,
    0,
    0x21,
    0,
    0x4430,
    0x1d12_e173,
    0x4000_0000,
    0x6,
];

/// Features that the header marks but that PV guests can't use, because the core doesn't give them MSR_SPEC_CTRL.
pub const NOT_OFFERED: [u32; 8] = [
    XEN_X86_FEATURE_IBRSB,
    XEN_X86_FEATURE_STIBP,
    XEN_X86_FEATURE_SSBD,
    XEN_X86_FEATURE_INTEL_PSFD,
    XEN_X86_FEATURE_SRSO_US_NO,
    XEN_X86_FEATURE_SBPB,
    XEN_X86_FEATURE_RTM_ALWAYS_ABORT,
    XEN_X86_FEATURE_DBEXT,
];

/// The bits of leaf 1 EDX that AMD repeats in leaf 0x80000001 EDX (APM vol. 3 §E.4.2).
pub const COMMON_1D: u32 = 0x0183_f3ff;

/// Features, each with those that are meaningless without it.
const DEPENDENTS: [(u32, &[u32]); 14] = [
    (XEN_X86_FEATURE_FPU, &[XEN_X86_FEATURE_MMX]),
    (
        XEN_X86_FEATURE_MMX,
        &[XEN_X86_FEATURE_MMXEXT, XEN_X86_FEATURE_3DNOW],
    ),
    (XEN_X86_FEATURE_3DNOW, &[XEN_X86_FEATURE_3DNOWEXT]),
    (
        XEN_X86_FEATURE_FXSR,
        &[XEN_X86_FEATURE_FFXSR, XEN_X86_FEATURE_SSE],
    ),
    (
        XEN_X86_FEATURE_SSE,
        &[XEN_X86_FEATURE_SSE2, XEN_X86_FEATURE_MISALIGNSSE],
    ),
    (
        XEN_X86_FEATURE_SSE2,
        &[
            XEN_X86_FEATURE_SSE3,
            XEN_X86_FEATURE_AESNI,
            XEN_X86_FEATURE_PCLMULQDQ,
            XEN_X86_FEATURE_SHA,
            XEN_X86_FEATURE_GFNI,
            XEN_X86_FEATURE_LM,
        ],
    ),
    (
        XEN_X86_FEATURE_SSE3,
        &[XEN_X86_FEATURE_SSSE3, XEN_X86_FEATURE_SSE4A],
    ),
    (XEN_X86_FEATURE_SSSE3, &[XEN_X86_FEATURE_SSE4_1]),
    (XEN_X86_FEATURE_SSE4_1, &[XEN_X86_FEATURE_SSE4_2]),
    (
        XEN_X86_FEATURE_LM,
        &[
            XEN_X86_FEATURE_LAHF_LM,
            XEN_X86_FEATURE_CX16,
            XEN_X86_FEATURE_PAGE1GB,
        ],
    ),
    (
        XEN_X86_FEATURE_XSAVE,
        &[
            XEN_X86_FEATURE_XSAVEOPT,
            XEN_X86_FEATURE_XSAVEC,
            XEN_X86_FEATURE_XGETBV1,
            XEN_X86_FEATURE_XSAVES,
            XEN_X86_FEATURE_AVX,
        ],
    ),
    (
        XEN_X86_FEATURE_AVX,
        &[
            XEN_X86_FEATURE_FMA,
            XEN_X86_FEATURE_FMA4,
            XEN_X86_FEATURE_F16C,
            XEN_X86_FEATURE_AVX2,
            XEN_X86_FEATURE_XOP,
        ],
    ),
    (
        XEN_X86_FEATURE_AVX2,
        &[
            XEN_X86_FEATURE_AVX512F,
            XEN_X86_FEATURE_VAES,
            XEN_X86_FEATURE_VPCLMULQDQ,
            XEN_X86_FEATURE_AVX_VNNI,
            XEN_X86_FEATURE_AVX_IFMA,
            XEN_X86_FEATURE_AVX_VNNI_INT8,
            XEN_X86_FEATURE_AVX_VNNI_INT16,
            XEN_X86_FEATURE_AVX_NE_CONVERT,
            XEN_X86_FEATURE_SHA512,
            XEN_X86_FEATURE_SM4,
            XEN_X86_FEATURE_SM3,
        ],
    ),
    (
        XEN_X86_FEATURE_AVX512F,
        &[
            XEN_X86_FEATURE_AVX512DQ,
            XEN_X86_FEATURE_AVX512_IFMA,
            XEN_X86_FEATURE_AVX512CD,
            XEN_X86_FEATURE_AVX512BW,
            XEN_X86_FEATURE_AVX512VL,
            XEN_X86_FEATURE_AVX512_VBMI,
            XEN_X86_FEATURE_AVX512_VBMI2,
            XEN_X86_FEATURE_AVX512_VNNI,
            XEN_X86_FEATURE_AVX512_BITALG,
            XEN_X86_FEATURE_AVX512_VPOPCNTDQ,
            XEN_X86_FEATURE_AVX512_BF16,
            XEN_X86_FEATURE_AVX512_FP16,
            XEN_X86_FEATURE_AVX512_VP2INTERSECT,
        ],
    ),
];

/// Whether the set contains the feature.
pub fn has(set: &Featureset, feature: u32) -> bool {
    set.get(feature as usize / 32)
        .is_some_and(|word| word >> (feature % 32) & 1 != 0)
}

/// Adds a feature to the set.
pub fn add(set: &mut Featureset, feature: u32) {
    if let Some(word) = set.get_mut(feature as usize / 32) {
        *word |= 1 << (feature % 32);
    }
}

/// Removes a feature from the set.
pub fn remove(set: &mut Featureset, feature: u32) {
    if let Some(word) = set.get_mut(feature as usize / 32) {
        *word &= !(1 << (feature % 32));
    }
}

/// Removes the features that are not in `mask`.
pub fn keep(set: &mut Featureset, mask: &Featureset) {
    for (word, mask) in set.iter_mut().zip(mask) {
        *word &= mask;
    }
}

/// Removes the features that lack one on which they depend.
pub fn drop_orphans(set: &mut Featureset) {
    // The table lists a feature before those that depend on it, so a single pass suffices.
    for (feature, dependents) in DEPENDENTS {
        if !has(set, feature) {
            dependents
                .iter()
                .for_each(|&dependent| remove(set, dependent));
        }
    }
}

impl Policy {
    /// Collects the feature words of the policy.
    pub fn featureset(&self) -> Featureset {
        let [f0, f1, f2] = self.feat;
        let (one, e1, e21) = (self.basic(1), self.ext(1), self.ext(0x21));
        [
            one.d,
            one.c,
            e1.d,
            e1.c,
            self.xstate[1].a,
            f0.b,
            f0.c,
            self.ext(7).d,
            self.ext(8).b,
            f0.d,
            f1.a,
            e21.a,
            f1.b,
            f2.d,
            f1.c,
            f1.d,
            self.arch_caps[0],
            self.arch_caps[1],
            e21.c,
        ]
    }

    /// Replaces the feature words of the policy.
    pub fn set_featureset(&mut self, set: &Featureset) {
        let [
            one_d,
            one_c,
            e1d,
            e1c,
            xsave,
            f0b,
            f0c,
            e7d,
            e8b,
            f0d,
            f1a,
            e21a,
            f1b,
            f2d,
            f1c,
            f1d,
            al,
            ah,
            e21c,
        ] = *set;
        (self.basic[1].d, self.basic[1].c) = (one_d, one_c);
        (self.ext[1].d, self.ext[1].c) = (e1d, e1c);
        self.xstate[1].a = xsave;
        (self.feat[0].b, self.feat[0].c, self.feat[0].d) = (f0b, f0c, f0d);
        (self.ext[7].d, self.ext[8].b) = (e7d, e8b);
        (
            self.feat[1].a,
            self.feat[1].b,
            self.feat[1].c,
            self.feat[1].d,
        ) = (f1a, f1b, f1c, f1d);
        self.feat[2].d = f2d;
        (self.ext[0x21].a, self.ext[0x21].c) = (e21a, e21c);
        self.arch_caps = [al, ah];
    }

    /// Whether the policy has the feature, a number of the public header.
    pub fn has(&self, feature: u32) -> bool {
        self.word(feature / 32) >> (feature % 32) & 1 != 0
    }

    /// One word of [`Policy::featureset`], without collecting the others.
    fn word(&self, index: u32) -> u32 {
        match index {
            0 => self.basic[1].d,
            1 => self.basic[1].c,
            2 => self.ext[1].d,
            3 => self.ext[1].c,
            4 => self.xstate[1].a,
            5 => self.feat[0].b,
            6 => self.feat[0].c,
            7 => self.ext[7].d,
            8 => self.ext[8].b,
            9 => self.feat[0].d,
            _ => self.featureset().get(index as usize).copied().unwrap_or(0),
        }
    }
}
