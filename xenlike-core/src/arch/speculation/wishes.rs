//! The choices on the command line: `spec-ctrl=`, `xpti=` and `pv-l1tf=`, with Xen's meaning. What is not chosen there
//! follows from the CPU.

/// A choice for domain 0, and one for all other domains.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PerDomain {
    /// The choice for domain 0.
    pub dom0: Option<bool>,
    /// The choice for all other domains.
    pub domus: Option<bool>,
}

/// All choices; `None` where the command line makes none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wishes {
    /// Write IA32_SPEC_CTRL on entry and exit (`msr-sc`).
    pub msr_sc: Option<bool>,
    /// Overwrite the return stack buffer on entry (`rsb`).
    pub rsb: Option<bool>,
    /// Execute VERW on exit (`verw`, `md-clear`).
    pub verw: Option<bool>,
    /// Restrict indirect speculation in ring 0 (`ibrs`).
    pub ibrs: Option<bool>,
    /// Execute a barrier between two domains (`ibpb`).
    pub ibpb: Option<bool>,
    /// Execute a barrier on each entry (`ibpb-entry`).
    pub ibpb_entry: Option<bool>,
    /// Overwrite the branch history on each entry (`bhb-entry`).
    pub bhb_entry: Option<bool>,
    /// Use the CPU's own protection against foreign branch history (`bhi-dis-s`).
    pub bhi_dis_s: Option<bool>,
    /// Hide AVX from guests if gathers leak (`gds-mit`).
    pub gds_mit: Option<bool>,
    /// Disable speculative store bypass (`ssbd`).
    pub ssbd: Option<bool>,
    /// Ignore predictions from the sibling thread (`stibp`).
    pub stibp: Option<bool>,
    /// Disable predictive store forwarding (`psfd`).
    pub psfd: Option<bool>,
    /// Isolate page tables (`xpti`).
    pub xpti: PerDomain,
    /// Make non-present page-table entries safe against L1 terminal fault (`pv-l1tf`).
    pub pv_l1tf: PerDomain,
}

impl PerDomain {
    /// The same choice for all domains.
    pub const fn both(value: Option<bool>) -> Self {
        Self {
            dom0: value,
            domus: value,
        }
    }
}

impl Wishes {
    /// Without all protection that the core has for itself (`spec-ctrl=no-xen`).
    pub const fn without_own(self) -> Self {
        let no = Some(false);
        Self {
            rsb: no,
            verw: no,
            ibrs: no,
            ibpb: no,
            ibpb_entry: no,
            bhb_entry: no,
            bhi_dis_s: no,
            gds_mit: no,
            ssbd: no,
            stibp: no,
            psfd: no,
            ..self
        }
    }
    /// Without all protection, unless an option of its own asks for it (`spec-ctrl=no`).
    pub fn without_all(self) -> Self {
        let unless_said = |wish: PerDomain| PerDomain {
            dom0: wish.dom0.or(Some(false)),
            domus: wish.domus.or(Some(false)),
        };
        Self {
            msr_sc: Some(false),
            xpti: unless_said(self.xpti),
            pv_l1tf: unless_said(self.pv_l1tf),
            ..self.without_own()
        }
    }
}
