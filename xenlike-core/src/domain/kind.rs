//! The kinds of vCPUs, and the questions that code for all kinds asks about one: each is a `match` here.

use super::VcpuState;
use crate::arch::frame::Mode;
use crate::pv::state::State as Pv;

/// What only one kind of vCPU has.
pub enum Kind {
    /// Paravirtual: the guest's kernel runs in ring 3 and knows it.
    Pv(Pv),
}

impl Kind {
    /// See [`VcpuState::pv`].
    #[inline(always)]
    pub const fn pv(&self) -> &Pv {
        let Self::Pv(pv) = self;
        pv
    }

    /// Whether the guest's kernel runs or its user code.
    #[inline]
    pub const fn mode(&self) -> Mode {
        match self {
            Self::Pv(pv) => pv.mode,
        }
    }

    /// Whether no NMI may be delivered now.
    #[inline]
    pub const fn nmi_masked(&self) -> bool {
        match self {
            Self::Pv(pv) => pv.nmi_masked,
        }
    }

    /// Lets NMIs reach it again.
    pub const fn unmask_nmi(&mut self) {
        match self {
            Self::Pv(pv) => pv.nmi_masked = false,
        }
    }

    /// CR2 as the guest sees it.
    pub const fn cr2(&self) -> u64 {
        match self {
            Self::Pv(pv) => pv.cr2,
        }
    }

    /// CR4 as the guest sees it.
    pub const fn cr4(&self) -> u64 {
        match self {
            Self::Pv(pv) => pv.cr4,
        }
    }
}

impl VcpuState {
    /// What only a PV vCPU has, for code that only PV vCPUs reach.
    #[inline(always)]
    pub const fn pv(&self) -> &Pv {
        self.kind.pv()
    }

    /// The same, to change it.
    #[inline(always)]
    pub const fn pv_mut(&mut self) -> &mut Pv {
        let Kind::Pv(pv) = &mut self.kind;
        pv
    }
}
