//! sysctl: the toolstack's operations on the machine (interface version 0x15).
//!
//! One match over the sub-operations. Each gets a copy of the caller's structure and changes the fields that the
//! header marks as output; the copy is then written back.

mod cpus;
mod domains;
mod log_ring;
mod machine;
mod policy;
mod pool;
mod tracing;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::sysctl::{self as abi, Sysctl};

use super::Ctx;
use super::arguments::Structure;
use crate::mm::guest::Guest;
pub(super) use pool::scheduler as scheduler_id;

/// The result of a sub-operation.
type Answer = Result<Back, Errno>;

/// Whether the caller's structure is written back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Back {
    /// It holds output and is written back.
    Write,
    /// It holds no output and stays unchanged.
    Keep,
}

/// `sysctl(op)`: performs one operation. EACCES for another interface version, EPERM without control rights.
pub fn call(ctx: &mut Ctx<'_>, args: &Structure) -> Result<(), Errno> {
    let mut op = ctx.guest().read::<Sysctl>(args.at)?;
    if op.interface_version != abi::XEN_SYSCTL_INTERFACE_VERSION {
        return Err(errno::EACCES);
    }
    ctx.require_control()?;
    if dispatch(ctx.guest(), &mut op)? == Back::Write {
        ctx.guest().write(args.at, &op)?;
    }
    Ok(())
}

fn dispatch(guest: Guest<'_>, op: &mut Sysctl) -> Answer {
    match op.cmd {
        abi::XEN_SYSCTL_READCONSOLE => log_ring::read(guest, op),
        abi::XEN_SYSCTL_DEBUG_KEYS => log_ring::debug_keys(guest, op),
        abi::XEN_SYSCTL_TBUF_OP => tracing::tbuf_op(guest, op),
        abi::XEN_SYSCTL_PHYSINFO => machine::physinfo(op),
        abi::XEN_SYSCTL_AVAILHEAP => machine::availheap(op),
        abi::XEN_SYSCTL_NUMAINFO => machine::numainfo(guest, op),
        abi::XEN_SYSCTL_GETCPUINFO => cpus::getcpuinfo(guest, op),
        abi::XEN_SYSCTL_CPUTOPOINFO => cpus::cputopoinfo(guest, op),
        abi::XEN_SYSCTL_SCHED_ID => pool::sched_id(op),
        abi::XEN_SYSCTL_CPUPOOL_OP => pool::cpupool_op(guest, op),
        abi::XEN_SYSCTL_SCHEDULER_OP => pool::scheduler_op(op),
        abi::XEN_SYSCTL_GETDOMAININFOLIST => domains::getdomaininfolist(guest, op),
        abi::XEN_SYSCTL_GET_CPU_LEVELLING_CAPS => policy::levelling_caps(op),
        abi::XEN_SYSCTL_GET_CPU_FEATURESET => policy::featureset(guest, op),
        abi::XEN_SYSCTL_GET_CPU_POLICY => policy::cpu_policy(guest, op),
        // Cache and memory-bandwidth monitoring and allocation are not supported.
        abi::XEN_SYSCTL_PSR_CMT_OP | abi::XEN_SYSCTL_PSR_ALLOC => Err(errno::ENODEV),
        abi::XEN_SYSCTL_CPU_HOTPLUG => cpus::hotplug(op),
        abi::XEN_SYSCTL_GET_PMSTAT => cpus::power(op),
        abi::XEN_SYSCTL_PCITOPOINFO => machine::pcitopoinfo(guest, op),
        abi::XEN_SYSCTL_COVERAGE_OP => Err(errno::EOPNOTSUPP),
        abi::XEN_SYSCTL_LIVEPATCH_OP => livepatch(op),
        // Performance counters and page offlining are not supported.
        _ => Err(errno::ENOSYS),
    }
}

/// XEN_SYSCTL_livepatch_op: the list of patches is empty, and none can be added.
fn livepatch(op: &mut Sysctl) -> Answer {
    let [cmd, pad, _version, index] = op.u.get::<[u32; 4]>();
    match cmd {
        abi::XEN_SYSCTL_LIVEPATCH_LIST => {
            // An empty list, with version 1.
            op.u.set(&[cmd, pad, 1, index, 0]);
            Ok(Back::Write)
        }
        abi::XEN_SYSCTL_LIVEPATCH_GET | abi::XEN_SYSCTL_LIVEPATCH_ACTION => Err(errno::ENOENT),
        _ => Err(errno::ENOSYS),
    }
}
