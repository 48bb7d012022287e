//! The proof that all CPUs stand still, and what it opens: the states of vCPUs that are on a CPU.
#![expect(unsafe_code, reason = "looks at vCPUs' states in their owners' stead")]

use crate::domain::{Vcpu, VcpuState};

/// All CPUs but this one stand still, at places where none has a reference to its vCPU's state.
pub(super) struct Stopped(());

impl Stopped {
    /// For [`super::stand`] alone, inside the standstill.
    pub(super) const fn new() -> Self {
        Self(())
    }

    /// The state of a vCPU, wherever that is.
    pub(super) fn state<'a>(&'a self, vcpu: &'a Vcpu) -> &'a VcpuState {
        // SAFETY: the owner, if there is one, is a CPU that stands on its way out of ring 0, where
        // `with_current` has ended, or this one, which stands there itself; nobody visits a state or
        // comes to own one before the standstill ends, and with it `self`. Only shared references
        // are made here.
        unsafe { vcpu.gate.state().get() }
    }
}
