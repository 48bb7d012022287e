//! What the command line asks for: `spec-ctrl=`, `xpti=`, `pv-l1tf=`, with Xen's meaning. What is
//! not said is decided from the CPU.

/// A wish for domain 0 and one for all others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PerDomain {
    /// For domain 0.
    pub dom0: Option<bool>,
    /// For the others.
    pub domus: Option<bool>,
}

/// Everything that may be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wishes {
    /// Setting IA32_SPEC_CTRL on the way in and out (`msr-sc`).
    pub msr_sc: Option<bool>,
    /// Overwriting the return stack buffer on entry (`rsb`).
    pub rsb: Option<bool>,
    /// VERW on the way out (`verw`, `md-clear`).
    pub verw: Option<bool>,
    /// Restricted indirect speculation in ring 0 (`ibrs`).
    pub ibrs: Option<bool>,
    /// A barrier between two domains (`ibpb`).
    pub ibpb: Option<bool>,
    /// A barrier on each way in (`ibpb-entry`).
    pub ibpb_entry: Option<bool>,
    /// The history of branches overwritten on each way in (`bhb-entry`).
    pub bhb_entry: Option<bool>,
    /// The CPU's own switch against that history (`bhi-dis-s`).
    pub bhi_dis_s: Option<bool>,
    /// AVX hidden where gathers leak (`gds-mit`).
    pub gds_mit: Option<bool>,
    /// No speculative store bypass (`ssbd`).
    pub ssbd: Option<bool>,
    /// No predictions from the CPU's sibling (`stibp`).
    pub stibp: Option<bool>,
    /// No predictive store forwarding (`psfd`).
    pub psfd: Option<bool>,
    /// Isolated page tables (`xpti`).
    pub xpti: PerDomain,
    /// Absent entries held to the rule of L1 terminal fault (`pv-l1tf`).
    pub pv_l1tf: PerDomain,
}

impl PerDomain {
    /// The same for all.
    pub const fn both(value: Option<bool>) -> Self {
        Self {
            dom0: value,
            domus: value,
        }
    }
}

impl Wishes {
    /// Nothing that the core does for itself (`spec-ctrl=no-xen`).
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
    /// Nothing at all but what was asked for by an option of its own (`spec-ctrl=no`).
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
