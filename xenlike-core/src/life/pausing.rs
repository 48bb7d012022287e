//! Pauses are counted, at the vCPU: it runs only while nobody holds it.

use crate::kit::atomic::Ordering;
use alloc::sync::Arc;

use crate::domain::vcpu::pause;
use crate::domain::{Domain, Vcpu, VcpuState, notify};
use crate::kit::lock::wait_step;
use crate::kit::{Lock, Rank};

/// The toolstack's pauses of one domain at a time (Xen's limit too).
const MOST_TOOLSTACK_PAUSES: u32 = 255;

/// Not paused, or too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCount;

/// Held while a count and the flag that goes with it change together.
static COUNTS: Lock<()> = Lock::new(Rank::Pausing, ());

/// Holds a vCPU once more. It may still be on its CPU when this returns.
pub fn pause(vcpu: &Vcpu) {
    let _counting = COUNTS.lock();
    if vcpu.pause_count.fetch_add(1, Ordering::AcqRel) == 0 {
        notify::hold(vcpu, pause::HELD);
    }
}

/// Takes one hold off a vCPU.
pub fn unpause(vcpu: &Vcpu) {
    let _counting = COUNTS.lock();
    if vcpu.pause_count.fetch_sub(1, Ordering::AcqRel) == 1 {
        notify::release(vcpu, pause::HELD);
    }
}

/// One pause more by the toolstack; no vCPU of the domain is on a CPU when this returns. Not for the
/// caller's own domain: it would wait for itself.
pub fn toolstack_pause(dom: &Domain) -> Result<(), BadCount> {
    let more = |count| (count < MOST_TOOLSTACK_PAUSES).then_some(u32::saturating_add(count, 1));
    let count = &dom.toolstack_pauses;
    count
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
        .map_err(|_| BadCount)?;
    dom.vcpus().iter().for_each(|vcpu| pause(vcpu));
    dom.vcpus().iter().for_each(|vcpu| wait_until_off(vcpu));
    Ok(())
}

/// Takes one of the toolstack's pauses off.
pub fn toolstack_unpause(dom: &Domain) -> Result<(), BadCount> {
    let less = |count: u32| count.checked_sub(1);
    let count = &dom.toolstack_pauses;
    count
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
        .map_err(|_| BadCount)?;
    dom.vcpus().iter().for_each(|vcpu| unpause(vcpu));
    Ok(())
}

/// Whether the toolstack has paused the domain.
pub fn is_toolstack_paused(dom: &Domain) -> bool {
    dom.toolstack_pauses.load(Ordering::Acquire) != 0
}

/// Whether no CPU holds the vCPU's registers.
pub fn is_off(vcpu: &Vcpu) -> bool {
    vcpu.descheduled().is_some()
}

/// Waits until no CPU holds the registers of a vCPU that is held. The CPU that does either runs the
/// guest, and has been sent an interrupt, or is in the core, where it waits for nobody but TLB
/// flushes, which the waiting step answers.
fn wait_until_off(vcpu: &Vcpu) {
    while !is_off(vcpu) {
        wait_step();
    }
}

/// Calls `act` with the state of a vCPU that is stopped for so long. Not for the caller itself.
pub fn with_stopped<R>(vcpu: &Arc<Vcpu>, act: impl FnOnce(&mut VcpuState) -> R) -> R {
    pause(vcpu);
    let mut state = loop {
        match vcpu.descheduled() {
            Some(state) => break state,
            None => wait_step(),
        }
    };
    let result = act(&mut state);
    drop(state);
    unpause(vcpu);
    result
}
