//! The vCPU that runs on this CPU. From the switch to it until the switch away its registers are in the CPU's top frame, and
//! its `VcpuState` belongs to the CPU. Only this file makes references to the two.
#![expect(
    unsafe_code,
    reason = "turns the CPU's exclusive hold on its vCPU into references"
)]

use crate::kit::atomic::{AtomicU64, Ordering};
use alloc::sync::Arc;
use core::cell::UnsafeCell;

use crate::arch::frame::TrapFrame;
use crate::arch::percpu;
use crate::domain::info::VcpuInfo;
use crate::domain::{Ctx, Domain, Vcpu};
use crate::kit::MAX_CPUS;
use crate::kit::cell::PerCpu;

/// The vCPU that runs on a CPU, and its domain; keeps both alive.
pub struct Running {
    /// The vCPU that runs.
    pub vcpu: Arc<Vcpu>,
    /// The domain of the vCPU.
    pub dom: Arc<Domain>,
}

/// Calls `act` with the vCPU that runs on this CPU and the frame with its registers; does nothing if no vCPU runs here.
#[inline]
pub fn with_current<R>(frame: &mut TrapFrame, act: impl FnOnce(&mut Ctx<'_>) -> R) -> Option<R> {
    Some(running()?.with(frame, act))
}

impl Running {
    /// Calls `act` with this vCPU and the frame with its registers.
    #[inline]
    pub(super) fn with<R>(
        &'static self,
        frame: &mut TrapFrame,
        act: impl FnOnce(&mut Ctx<'_>) -> R,
    ) -> R {
        // SAFETY: a `&'static Running` comes only from `running`: `current` was set, so this CPU owns the
        // vCPU's state until it switches away. Only `super::switch` does that, and never below a call of this
        // function. Traps in ring 0 don't come here, so there is no other reference.
        let st = unsafe { self.vcpu.gate.state().get() };
        act(&mut Ctx {
            vcpu: &self.vcpu,
            dom: &self.dom,
            st,
            regs: frame,
        })
    }
}

/// The place of a CPU's [`Running`], which only that CPU touches.
struct Slot(UnsafeCell<Option<Running>>);

// SAFETY: each CPU touches only its own slot, with interrupts off. Handlers that can interrupt ring 0 anywhere
// (NMI, #MC) don't come here.
unsafe impl Sync for Slot {}

static RUNNING: PerCpu<Slot> = PerCpu::new([const { Slot(UnsafeCell::new(None)) }; MAX_CPUS]);

/// The vCPU that runs on this CPU.
#[inline]
pub fn running() -> Option<&'static Running> {
    let at = percpu::info().current.load(Ordering::Relaxed);
    // SAFETY: `set_running` has stored the address of the contents of this CPU's slot, which stay there until
    // this CPU itself switches away. No reference is kept across that.
    (at != 0).then(|| unsafe { &*(at as *const Running) })
}

/// Makes `next` the vCPU that runs on this CPU.
///
/// # Safety
/// Its state is this CPU's: it has been entered.
pub(super) unsafe fn set_running(next: Running) {
    let slot = RUNNING.of(percpu::this_cpu());
    // SAFETY: this CPU's slot, to which there is no reference, because no vCPU runs here now.
    let running = unsafe { (*slot.0.get()).insert(next) };
    let at = core::ptr::from_ref(running) as u64;
    percpu::info().current.store(at, Ordering::Relaxed);
}

/// Clears the record of the vCPU that runs on this CPU, and releases the vCPU's state. Its registers
/// have been saved.
pub(super) fn clear_running() -> Option<Running> {
    percpu::info().current.store(0, Ordering::Relaxed);
    let slot = RUNNING.of(percpu::this_cpu());
    // SAFETY: the slot is this CPU's, and `with_current` keeps no reference.
    let running = unsafe { (*slot.0.get()).take() }?;
    // SAFETY: this CPU has owned the state since `set_running`, and no reference to it is left.
    unsafe { running.vcpu.gate.state().release() };
    Some(running)
}

/// Sets the vcpu_info whose flags the exit stub tests; `None` while no vCPU runs.
pub(super) fn set_vcpu_info(info: Option<&VcpuInfo>) {
    static NOBODY: AtomicU64 = AtomicU64::new(0);
    let at = info.map_or(&raw const NOBODY as u64, VcpuInfo::address);
    percpu::info().vcpu_info.store(at, Ordering::Relaxed);
}
