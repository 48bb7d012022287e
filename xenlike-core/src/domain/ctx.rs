//! The context that a handler gets of the vCPU that runs on this CPU.

use alloc::sync::Arc;

use super::{Domain, Vcpu, VcpuState};
use crate::arch::frame::{Mode, TrapFrame};
use crate::arch::work;
use crate::mm::guest::Guest;

/// The vCPU from which this CPU entered ring 0. Valid until the CPU leaves ring 0 or switches to another vCPU.
pub struct Ctx<'a> {
    /// The part of the vCPU that any CPU may read.
    pub vcpu: &'a Arc<Vcpu>,
    /// The domain of the vCPU.
    pub dom: &'a Arc<Domain>,
    /// Its state, which belongs to this CPU while the vCPU runs here.
    pub st: &'a mut VcpuState,
    /// The vCPU's general registers, in the frame at the top of the CPU's stack.
    pub regs: &'a mut TrapFrame,
}

impl Ctx<'_> {
    /// Reborrows for a cold callee, so that the hot path never builds a `Ctx` in memory.
    #[inline(always)] // only moves words
    pub fn reborrow(&mut self) -> Ctx<'_> {
        Ctx {
            vcpu: self.vcpu,
            dom: self.dom,
            st: self.st,
            regs: self.regs,
        }
    }

    /// The part of the guest that runs, its kernel or its user code.
    #[inline(always)]
    pub const fn mode(&self) -> Mode {
        self.st.kind.mode()
    }

    /// The vCPU's memory, by its own addresses.
    #[inline(always)] // most callers need nothing of it
    pub const fn guest(&self) -> Guest<'_> {
        Guest::loaded(self.st.kind.width())
    }

    /// Whether the CPU has other work, for which a long call stops and continues later.
    pub fn preempted(&self) -> bool {
        work::preempts() || self.vcpu.info.wants_upcall()
    }

    /// Logs the vCPU's registers.
    pub fn log_registers(&self) {
        let mode = self.mode();
        log::warn!(
            "{:?}{:?} in {mode} mode, last fault address {:#x}",
            self.dom.id(),
            self.vcpu.id,
            self.st.kind.cr2()
        );
        log::warn!("{}", &*self.regs);
    }
}
