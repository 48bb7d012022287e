//! Takes CPUs offline and brings them back, as the control domain asks.
//!
//! An offline CPU runs no vCPU, but keeps everything else: it sleeps in ring 0, takes part in TLB flushes and
//! rendezvous, and handles its own interrupts and deadlines. Therefore a guest has nothing to race with.
//! and serves interrupts and deadlines that were its own. So there is nothing that a guest could race with.

use guest_pv_abi::xen::VIRQ_PCPU_STATE;

use crate::arch::work;
use crate::domain::notify::{SCHED, global_virq};
use crate::kit::CpuId;

/// Why the state of a CPU was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There is no such CPU.
    Absent,
    /// The first CPU must stay online.
    First,
    /// The CPU is in the requested state already.
    Already,
    /// There is no memory for the CPU's queue.
    NoMemory,
}

fn present(cpu: u32) -> Result<CpuId, Refused> {
    SCHED.present().find(cpu).ok_or(Refused::Absent)
}

/// Lets vCPUs run on a CPU again.
///
/// # Errors
/// See [`Refused`].
pub fn online(cpu: u32) -> Result<(), Refused> {
    let cpu = present(cpu)?;
    if SCHED.online().contains(cpu) {
        return Err(Refused::Already);
    }
    SCHED.bring_online(cpu).map_err(|_| Refused::NoMemory)?;
    changed(cpu, "back in service");
    Ok(())
}

/// Stops running vCPUs on a CPU. A vCPU that may run only there runs anywhere until the CPU is back.
///
/// # Errors
/// See [`Refused`].
pub fn offline(cpu: u32) -> Result<(), Refused> {
    let cpu = present(cpu)?;
    if cpu == CpuId(0) {
        return Err(Refused::First);
    }
    if !SCHED.take_offline(cpu) {
        return Err(Refused::Already);
    }
    changed(cpu, "out of service");
    Ok(())
}

fn changed(cpu: CpuId, how: &str) {
    log::info!("CPU {} is {how}", cpu.0);
    work::raise(cpu, work::SCHEDULE);
    global_virq(VIRQ_PCPU_STATE);
}
