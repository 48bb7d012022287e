//! The proof that all CPUs stand still, and access to what that permits: the states of vCPUs, including those that run.
#![expect(unsafe_code, reason = "looks at vCPUs' states in their owners' stead")]

use crate::domain::{Vcpu, VcpuState};

/// Proves that all other CPUs stand still, at places where none has a reference to its vCPU's state.
pub(super) struct Stopped(());

impl Stopped {
    /// Only [`super::stand`] calls this, during the standstill.
    pub(super) const fn new() -> Self {
        Self(())
    }

    /// The state of a vCPU, whether or not a CPU owns it.
    pub(super) fn state<'a>(&'a self, vcpu: &'a Vcpu) -> &'a VcpuState {
        // SAFETY: the owner, if there is one, is a CPU that stands still on its way out of ring 0, where `with_current`
        // has ended, or this CPU, which is there itself. No CPU visits or takes a state before the standstill ends, and
        // `self` with it. Only shared references are made here.
        unsafe { vcpu.gate.state().get() }
    }
}
