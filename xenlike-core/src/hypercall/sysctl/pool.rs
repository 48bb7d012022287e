//! CPU pools, and the scheduler's parameters. All pools share one scheduler, whose name (credit or credit2) selects
//! the layout of its parameters.

use guest_pv_abi::domctl::{XEN_SCHEDULER_CREDIT, XEN_SCHEDULER_CREDIT2};
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::sysctl::{
    self as abi, CpupoolOp, Credit2Schedule, CreditSchedule, SchedId, SchedulerOp, Sysctl,
};

use super::{Answer, Back};
use crate::domain::notify::SCHED;
use crate::domain::registry;
use crate::hypercall::{ctl_bitmap, domctl};
use crate::kit::DomId;
use crate::life::pools::{self, Refused};
use crate::mm::guest::Guest;
use crate::sched::DEFAULT_SLICE_NS;
use crate::sched::name::{Name, name};

/// Nanoseconds in a millisecond and in a microsecond.
const MS: u64 = 1_000_000;
const US: u64 = 1_000;

/// The XEN_SCHEDULER_* number of the scheduler's name.
pub fn scheduler() -> u32 {
    match name() {
        Name::Credit => XEN_SCHEDULER_CREDIT,
        Name::Credit2 => XEN_SCHEDULER_CREDIT2,
    }
}

/// XEN_SYSCTL_sched_id: returns the scheduler's number.
pub fn sched_id(op: &mut Sysctl) -> Answer {
    op.u.set(&SchedId {
        sched_id: scheduler(),
    });
    Ok(Back::Write)
}

/// XEN_SYSCTL_cpupool_op: creates, destroys, changes and describes CPU pools.
pub fn cpupool_op(guest: Guest<'_>, op: &mut Sysctl) -> Answer {
    // Domains are created and destroyed under this lock.
    let Some(_alone) = domctl::ONE_AT_A_TIME.try_lock() else {
        return Err(errno::ERESTART);
    };
    let mut body = op.u.get::<CpupoolOp>();
    let any = |number: u32| (number != abi::XEN_SYSCTL_CPUPOOL_PAR_ANY).then_some(number);
    let (pool, cpu) = (body.cpupool_id, any(body.cpu));
    match body.op {
        // All pools share one scheduler.
        abi::XEN_SYSCTL_CPUPOOL_OP_CREATE if body.sched_id != scheduler() => {
            return Err(errno::ENOENT);
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_CREATE => {
            body.cpupool_id = pools::create(any(pool)).map_err(pool_errno)?;
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_DESTROY => pools::destroy(pool).map_err(pool_errno)?,
        abi::XEN_SYSCTL_CPUPOOL_OP_INFO => tell(guest, &mut body)?,
        abi::XEN_SYSCTL_CPUPOOL_OP_ADDCPU => pools::add_cpu(pool, cpu).map_err(pool_errno)?,
        abi::XEN_SYSCTL_CPUPOOL_OP_RMCPU => pools::remove_cpu(pool, cpu).map_err(pool_errno)?,
        abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN => move_domain(body.domid, pool)?,
        abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO => {
            ctl_bitmap::write(guest, &body.cpumap, pools::free_cpus())?;
        }
        _ => return Err(errno::ENOSYS),
    }
    op.u.set(&body);
    Ok(Back::Write)
}

fn pool_errno(refused: Refused) -> Errno {
    match refused {
        Refused::NoSuchPool => errno::ENOENT,
        Refused::Exists => errno::EEXIST,
        Refused::TooMany => errno::ENOMEM,
        Refused::NoSuchCpu => errno::EINVAL,
        Refused::NotThere => errno::ENODEV,
        Refused::Used => errno::EBUSY,
    }
}

/// Describes the first pool whose number is the given one or above.
fn tell(guest: Guest<'_>, body: &mut CpupoolOp) -> Result<(), Errno> {
    let pool = pools::next(body.cpupool_id).ok_or(errno::ENOENT)?;
    let cpus = pools::cpus(pool).ok_or(errno::ENOENT)?;
    body.cpupool_id = pool;
    body.sched_id = scheduler();
    body.n_dom = pools::domains(pool).len() as u32;
    ctl_bitmap::write(guest, &body.cpumap, cpus.and(SCHED.online()))
}

/// Moves a domain to another pool. EINVAL for domain 0, which can't be moved.
fn move_domain(id: u32, pool: u32) -> Result<(), Errno> {
    let id = u16::try_from(id).map_err(|_| errno::ESRCH)?;
    if DomId(id) == DomId::DOM0 {
        return Err(errno::EINVAL);
    }
    let dom = registry::lookup(DomId(id)).ok_or(errno::ESRCH)?;
    pools::move_domain(&dom, pool).map_err(pool_errno)
}

/// XEN_SYSCTL_scheduler_op: sets or returns the scheduler's time slice and rate limit.
pub fn scheduler_op(op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<SchedulerOp>();
    if pools::cpus(body.cpupool_id).is_none() {
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

/// Sets the parameters. credit2 has no parameter for the time slice: it gets the default, or the rate limit if that
/// is longer.
fn set_parameters(body: &SchedulerOp) -> Result<(), Errno> {
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
