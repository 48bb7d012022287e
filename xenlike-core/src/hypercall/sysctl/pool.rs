//! CPU pools and the scheduler's own parameters. There is one pool, number 0, of all CPUs, and its
//! scheduler has the parameters that go with its name.

use guest_pv_abi::domctl::{XEN_SCHEDULER_CREDIT, XEN_SCHEDULER_CREDIT2};
use guest_pv_abi::errno;
use guest_pv_abi::sysctl::{
    self as abi, CpupoolOp, Credit2Schedule, CreditSchedule, SchedId, SchedulerOp, Sysctl,
};

use super::{Answer, Back};
use crate::domain::notify::SCHED;
use crate::domain::registry;
use crate::hypercall::ctl_bitmap;
use crate::kit::{CpuSet, DomId};
use crate::sched::DEFAULT_SLICE_NS;
use crate::sched::name::{Name, name};

/// The one pool.
pub const POOL: u32 = 0;

/// Nanoseconds in a millisecond and in a microsecond.
const MS: u64 = 1_000_000;
const US: u64 = 1_000;

/// XEN_SCHEDULER_*: what the scheduler is called.
pub fn scheduler() -> u32 {
    match name() {
        Name::Credit => XEN_SCHEDULER_CREDIT,
        Name::Credit2 => XEN_SCHEDULER_CREDIT2,
    }
}

/// XEN_SYSCTL_sched_id
pub fn sched_id(op: &mut Sysctl) -> Answer {
    op.u.set(&SchedId {
        sched_id: scheduler(),
    });
    Ok(Back::Write)
}

/// XEN_SYSCTL_cpupool_op
pub fn cpupool_op(op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<CpupoolOp>();
    match body.op {
        abi::XEN_SYSCTL_CPUPOOL_OP_INFO => {
            // The next pool from this number on.
            if body.cpupool_id != POOL && body.cpupool_id != abi::XEN_SYSCTL_CPUPOOL_PAR_ANY {
                return Err(errno::ENOENT);
            }
            body.cpupool_id = POOL;
            body.sched_id = scheduler();
            body.n_dom = registry::from(DomId(0)).len() as u32;
            ctl_bitmap::write(&body.cpumap, SCHED.online())?;
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO => ctl_bitmap::write(&body.cpumap, CpuSet::EMPTY)?,
        abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN if body.cpupool_id == POOL => return Ok(Back::Keep),
        abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN => return Err(errno::ENOENT),
        abi::XEN_SYSCTL_CPUPOOL_OP_DESTROY if body.cpupool_id == POOL => return Err(errno::EBUSY),
        abi::XEN_SYSCTL_CPUPOOL_OP_DESTROY => return Err(errno::ENOENT),
        abi::XEN_SYSCTL_CPUPOOL_OP_CREATE
        | abi::XEN_SYSCTL_CPUPOOL_OP_ADDCPU
        | abi::XEN_SYSCTL_CPUPOOL_OP_RMCPU => return Err(errno::EOPNOTSUPP),
        _ => return Err(errno::ENOSYS),
    }
    op.u.set(&body);
    Ok(Back::Write)
}

/// XEN_SYSCTL_scheduler_op
pub fn scheduler_op(op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<SchedulerOp>();
    if body.cpupool_id != POOL {
        return Err(errno::ESRCH);
    }
    if body.sched_id != scheduler() {
        return Err(errno::EINVAL);
    }
    match body.cmd {
        abi::XEN_SYSCTL_SCHEDOP_PUTINFO => set_parameters(&body)?,
        abi::XEN_SYSCTL_SCHEDOP_GETINFO => {}
        _ => return Err(errno::EINVAL),
    }
    let ratelimit_us = (SCHED.ratelimit_ns() / US) as u32;
    match name() {
        Name::Credit => body.u.set(&CreditSchedule {
            tslice_ms: (SCHED.slice_ns() / MS) as u32,
            ratelimit_us,
            vcpu_migr_delay_us: 0,
        }),
        Name::Credit2 => body.u.set(&Credit2Schedule { ratelimit_us }),
    }
    op.u.set(&body);
    Ok(Back::Write)
}

/// credit2 has no time slice of its own to set: it is as long as usual, or as the shortest turn.
fn set_parameters(body: &SchedulerOp) -> Result<(), errno::Errno> {
    let slices = abi::XEN_SYSCTL_CSCHED_TSLICE_MIN..=abi::XEN_SYSCTL_CSCHED_TSLICE_MAX;
    let limits = abi::XEN_SYSCTL_SCHED_RATELIMIT_MIN..=abi::XEN_SYSCTL_SCHED_RATELIMIT_MAX;
    let to_ns = |number: u32, unit| u64::from(number).saturating_mul(unit);
    let (ratelimit_us, slice_ns) = match name() {
        Name::Credit => {
            let wanted = body.u.get::<CreditSchedule>();
            let slice_ns = to_ns(wanted.tslice_ms, MS);
            if !slices.contains(&wanted.tslice_ms) || to_ns(wanted.ratelimit_us, US) > slice_ns {
                return Err(errno::EINVAL);
            }
            (wanted.ratelimit_us, slice_ns)
        }
        Name::Credit2 => {
            let wanted = body.u.get::<Credit2Schedule>().ratelimit_us;
            (wanted, DEFAULT_SLICE_NS.max(to_ns(wanted, US)))
        }
    };
    if ratelimit_us != 0 && !limits.contains(&ratelimit_us) {
        return Err(errno::EINVAL);
    }
    SCHED.set_slice_ns(slice_ns);
    SCHED.set_ratelimit_ns(to_ns(ratelimit_us, US));
    Ok(())
}
