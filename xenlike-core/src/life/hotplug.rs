//! CPUs that go out of service and come back, as the control domain says.
//!
//! One that is offline runs no vCPU and has nothing else taken from it: it sleeps in ring 0, takes part in flushes and meetings,
//! and serves interrupts and deadlines that were its own. So there is nothing that a guest could race with.

use guest_pv_abi::xen::VIRQ_PCPU_STATE;

use crate::arch::work;
use crate::domain::notify::{SCHED, global_virq};
use crate::kit::CpuId;

/// Why a CPU stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There is no such CPU.
    Absent,
    /// The first CPU stays online.
    First,
    /// It is as asked for.
    Already,
    /// No memory for its queue.
    NoMemory,
}

fn present(cpu: u32) -> Result<CpuId, Refused> {
    SCHED.present().find(cpu).ok_or(Refused::Absent)
}

/// Has vCPUs run on a CPU again.
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

/// Has no vCPU run on a CPU. Those that may run there alone run anywhere until it is back.
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
