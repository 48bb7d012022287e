//! The kinds of vCPUs. Code for all kinds asks its questions about one here, where each is one `match`.

use guest_pv_abi::Width;

use super::VcpuState;
use crate::arch::frame::Mode;
use crate::pv::state::State as Pv;

/// The state that only one kind of vCPU has.
pub enum Kind {
    /// A paravirtual vCPU, whose kernel runs in ring 3 and knows it.
    Pv(Pv),
}

impl Kind {
    /// See [`VcpuState::pv`].
    #[inline(always)]
    pub const fn pv(&self) -> &Pv {
        let Self::Pv(pv) = self;
        pv
    }

    /// The mode that runs: the guest's kernel or its user code.
    #[inline(always)]
    pub const fn mode(&self) -> Mode {
        match self {
            Self::Pv(pv) => pv.mode,
        }
    }

    /// The width of the guest's structures.
    #[inline(always)]
    pub const fn width(&self) -> Width {
        match self {
            Self::Pv(pv) => pv.width,
        }
    }

    /// Whether NMIs are masked.
    #[inline]
    pub const fn nmi_masked(&self) -> bool {
        match self {
            Self::Pv(pv) => pv.nmi_masked,
        }
    }

    /// Unmasks NMIs.
    pub const fn unmask_nmi(&mut self) {
        match self {
            Self::Pv(pv) => pv.nmi_masked = false,
        }
    }

    /// Returns CR2 as the guest sees it.
    pub const fn cr2(&self) -> u64 {
        match self {
            Self::Pv(pv) => pv.cr2,
        }
    }

    /// Returns CR4 as the guest sees it.
    pub const fn cr4(&self) -> u64 {
        match self {
            Self::Pv(pv) => pv.cr4,
        }
    }
}

impl VcpuState {
    /// The state that only a PV vCPU has, for code that only PV vCPUs reach.
    #[inline(always)]
    pub const fn pv(&self) -> &Pv {
        self.kind.pv()
    }

    /// The same for changes.
    #[inline(always)]
    pub const fn pv_mut(&mut self) -> &mut Pv {
        let Kind::Pv(pv) = &mut self.kind;
        pv
    }
}
