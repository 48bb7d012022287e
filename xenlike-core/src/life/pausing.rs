//! Pauses are counted at each vCPU, which runs only while the count is 0.
//!
//! A paused vCPU is off its CPU before the caller continues. A caller that can't wait for that
//! ([`Gate::visit_held`](crate::domain::gate::Gate::visit_held)) undoes the pause and repeats its call.

use crate::kit::atomic::Ordering;

use crate::domain::vcpu::pause::HELD_ONCE;
use crate::domain::{Domain, Vcpu, VcpuState};

/// The maximum number of the toolstack's pauses of one domain, as on Xen.
const MAX_TOOLSTACK_PAUSES: u32 = 255;

/// Why a domain was not paused or unpaused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The domain is not paused, or is paused too often.
    BadCount,
    /// Not an error: the calling vCPU must leave its CPU first, and then repeat the call.
    Again,
}

/// The calling vCPU must leave its CPU first, and then repeat the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again;

/// Adds one pause to a vCPU. It may still be on its CPU when this returns.
fn pause(vcpu: &Vcpu) {
    vcpu.gate.add(HELD_ONCE, vcpu);
}

/// Removes one pause from a vCPU.
fn unpause(vcpu: &Vcpu) {
    vcpu.gate.subtract(HELD_ONCE, vcpu);
}

/// Adds one pause by the toolstack to all vCPUs of `dom`. None of them is on a CPU when this returns.
/// `caller` is the toolstack's vCPU that makes the call; its own domain can't be paused, because the call
/// would wait for itself.
///
/// # Errors
/// See [`Refused`]. The domain is not paused by this call then.
pub fn toolstack_pause(caller: &Vcpu, dom: &Domain) -> Result<(), Refused> {
    let more = |count| (count < MAX_TOOLSTACK_PAUSES).then_some(u32::saturating_add(count, 1));
    let count = &dom.toolstack_pauses;
    count
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
        .map_err(|_| Refused::BadCount)?;
    dom.vcpus().iter().for_each(|vcpu| pause(vcpu));
    let caller = Some(&caller.gate);
    let is_off = |vcpu: &Vcpu| vcpu.gate.visit_held(caller).is_some();
    if dom.vcpus().iter().all(|vcpu| is_off(vcpu)) {
        return Ok(());
    }
    toolstack_unpause(dom).and(Err(Refused::Again))
}

/// Removes one of the toolstack's pauses.
///
/// # Errors
/// [`Refused::BadCount`] if the domain is not paused.
pub fn toolstack_unpause(dom: &Domain) -> Result<(), Refused> {
    let less = |count: u32| count.checked_sub(1);
    let count = &dom.toolstack_pauses;
    count
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
        .map_err(|_| Refused::BadCount)?;
    dom.vcpus().iter().for_each(|vcpu| unpause(vcpu));
    Ok(())
}

/// Whether the toolstack has paused the domain.
pub fn is_toolstack_paused(dom: &Domain) -> bool {
    dom.toolstack_pauses.load(Ordering::Acquire) != 0
}

/// Whether no CPU holds the vCPU's registers. If the vCPU was held before this call, the answer remains true
/// for as long as it is held.
pub fn is_off(vcpu: &Vcpu) -> bool {
    vcpu.gate.visit().is_some()
}

/// Stops a vCPU and calls `act` with its state. `caller` is the vCPU that makes the call, which must be another
/// one; `None` while the machine boots.
///
/// # Errors
/// [`Again`]. Nothing was called then.
pub fn with_stopped<R>(
    caller: Option<&Vcpu>,
    vcpu: &Vcpu,
    act: impl FnOnce(&mut VcpuState) -> R,
) -> Result<R, Again> {
    pause(vcpu);
    let visit = vcpu.gate.visit_held(caller.map(|caller| &caller.gate));
    let result = visit.map(|mut state| act(&mut state)).ok_or(Again);
    unpause(vcpu);
    result
}
