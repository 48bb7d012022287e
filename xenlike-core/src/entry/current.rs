//! The vCPU that this CPU runs. Its registers are in the top frame, and [`VcpuState`] is this CPU's
//! from the switch to it until the switch away: the one place that hands both out.
#![expect(
    unsafe_code,
    reason = "turns the CPU's exclusive hold on its vCPU into references"
)]

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::frame::TrapFrame;
use crate::arch::percpu;
use crate::domain::info::VcpuInfo;
use crate::domain::{Domain, Vcpu};
use crate::hypercall::Ctx;

/// What keeps a running vCPU and its domain alive.
pub struct Running {
    /// The vCPU.
    pub vcpu: Arc<Vcpu>,
    /// Its domain.
    pub dom: Arc<Domain>,
}

/// Calls `act` with the vCPU that runs on this CPU and the frame it was left in. Without one (the
/// frame is not a guest's) nothing is called.
pub fn with_current<R>(frame: &mut TrapFrame, act: impl FnOnce(&mut Ctx<'_>) -> R) -> Option<R> {
    let running = running()?;
    // SAFETY: `current` is set, so this CPU owns the vCPU's state until it switches away, which
    // only `super::switch` does and never below a call of this function; traps in ring 0 don't
    // come here, so no other reference is alive.
    let st = unsafe { running.vcpu.state.get() };
    Some(act(&mut Ctx {
        vcpu: &running.vcpu,
        dom: &running.dom,
        st,
        regs: frame,
    }))
}

/// Who runs on this CPU.
pub fn running() -> Option<&'static Running> {
    let at = percpu::info().current.load(Ordering::Relaxed);
    // SAFETY: `set_running` stored a leaked box, which lives until this CPU itself replaces it at a
    // switch; references are not kept across one.
    (at != 0).then(|| unsafe { &*(at as *const Running) })
}

/// Makes `next` the one that runs on this CPU: its state is this CPU's from here on.
pub(super) fn set_running(next: Running) {
    next.vcpu.state.acquire();
    let next = Box::into_raw(Box::new(next)) as u64;
    percpu::info().current.store(next, Ordering::Relaxed);
}

/// Lets go of the one that runs on this CPU; its registers have been saved.
pub(super) fn clear_running() -> Option<Running> {
    let at = percpu::info().current.swap(0, Ordering::Relaxed);
    if at == 0 {
        return None;
    }
    // SAFETY: it came from `Box::into_raw` in `set_running` and nobody else has it.
    let running = unsafe { Box::from_raw(at as *mut Running) };
    // SAFETY: this CPU owned the state since then, and `with_current` keeps no reference.
    unsafe { running.vcpu.state.release() };
    Some(*running)
}

/// Points the exit stub at the vcpu_info whose flags it looks at; none while no vCPU runs.
pub(super) fn set_vcpu_info(info: Option<&VcpuInfo>) {
    static NOBODY: AtomicU64 = AtomicU64::new(0);
    let at = info.map_or(&raw const NOBODY as u64, VcpuInfo::address);
    percpu::info().vcpu_info.store(at, Ordering::Relaxed);
}
