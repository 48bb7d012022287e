//! Pauses are counted, at the vCPU: it runs only while nobody holds it.
//!
//! What is paused here is off its CPU before the caller goes on. Who has to wait for that too long
//! ([`Gate::visit_held`](crate::domain::gate::Gate::visit_held)) undoes the pause and makes its call again.

use crate::kit::atomic::Ordering;

use crate::domain::vcpu::pause::HELD_ONCE;
use crate::domain::{Domain, Vcpu, VcpuState};

/// The toolstack's pauses of one domain at a time (Xen's limit too).
const MOST_TOOLSTACK_PAUSES: u32 = 255;

/// Why a domain was not paused or unpaused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not paused, or too often.
    BadCount,
    /// Not refused: the calling vCPU has to leave its CPU first, then make its call again.
    Again,
}

/// The calling vCPU has to leave its CPU first, then make its call again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again;

/// Holds a vCPU once more. It may still be on its CPU when this returns.
fn pause(vcpu: &Vcpu) {
    vcpu.gate.add(HELD_ONCE, vcpu);
}

/// Takes one hold off a vCPU.
fn unpause(vcpu: &Vcpu) {
    vcpu.gate.subtract(HELD_ONCE, vcpu);
}

/// One pause more by the toolstack, of which `caller` is a vCPU; no vCPU of the domain is on a CPU when
/// this returns. Not for the caller's own domain: it would wait for itself.
///
/// # Errors
/// See [`Refused`]; the domain is not paused then.
pub fn toolstack_pause(caller: &Vcpu, dom: &Domain) -> Result<(), Refused> {
    let more = |count| (count < MOST_TOOLSTACK_PAUSES).then_some(u32::saturating_add(count, 1));
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

/// Takes one of the toolstack's pauses off.
///
/// # Errors
/// [`Refused::BadCount`] if it is not paused.
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

/// Whether no CPU holds the vCPU's registers; it stays so for as long as the vCPU is held, if it was
/// before.
pub fn is_off(vcpu: &Vcpu) -> bool {
    vcpu.gate.visit().is_some()
}

/// Calls `act` with the state of a vCPU that is stopped for so long, for `caller`, which is another one
/// (none while the machine boots).
///
/// # Errors
/// [`Again`]; then nothing was called.
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
