//! The CPUs and nodes that vCPUs may run on (hard affinity) and prefer (soft affinity).

use alloc::sync::Arc;

use guest_pv_abi::domctl::{self as abi, Domctl, NodeAffinity, VcpuAffinity};
use guest_pv_abi::errno::{self, Errno};

use super::{Answer, Answered};
use crate::arch::{time, work};
use crate::domain::notify::SCHED;
use crate::domain::{Domain, Vcpu};
use crate::hypercall::ctl_bitmap;
use crate::kit::{CpuSet, VcpuId};
use crate::mm::guest::Guest;

/// All known flags.
const KNOWN: u32 =
    abi::XEN_VCPUAFFINITY_HARD | abi::XEN_VCPUAFFINITY_SOFT | abi::XEN_VCPUAFFINITY_FORCE;
/// The set of NUMA nodes, of which there is one.
const NODES: CpuSet = CpuSet(1);

fn subject<'a>(dom: &'a Domain, body: &VcpuAffinity) -> Result<&'a Arc<Vcpu>, Errno> {
    let hard_or_soft = abi::XEN_VCPUAFFINITY_HARD | abi::XEN_VCPUAFFINITY_SOFT;
    if body.vcpu >= dom.max_vcpus || body.flags & hard_or_soft == 0 || body.flags & !KNOWN != 0 {
        return Err(errno::EINVAL);
    }
    dom.vcpu(VcpuId(body.vcpu)).ok_or(errno::ESRCH)
}

/// XEN_DOMCTL_setvcpuaffinity: sets a vCPU's hard or soft affinity, or both, and returns the effective sets. EINVAL
/// if a set has no usable CPU.
pub fn set(guest: Guest<'_>, dom: &Domain, op: &mut Domctl) -> Answered {
    let body = op.u.get::<VcpuAffinity>();
    let vcpu = subject(dom, &body)?;
    let online = SCHED.online().and(dom.share.cpus());
    let (mut new_hard, mut new_soft) = (None, None);
    if body.flags & abi::XEN_VCPUAFFINITY_HARD != 0 {
        let hard = ctl_bitmap::read(guest, &body.cpumap_hard)?;
        if hard.and(online).is_empty() {
            return Err(errno::EINVAL);
        }
        new_hard = Some(hard);
    }
    if body.flags & abi::XEN_VCPUAFFINITY_SOFT != 0 {
        let soft = ctl_bitmap::read(guest, &body.cpumap_soft)?;
        if soft.is_empty() {
            return Err(errno::EINVAL);
        }
        new_soft = Some(soft);
    }
    let mut pinned = vcpu.pinned.lock();
    let (mut hard, soft) = SCHED.affinity(vcpu.unit).ok_or(errno::ESRCH)?;
    if let Some(before) = *pinned {
        // A pin by SCHEDOP_pin_override lasts until the guest undoes it or the toolstack forces a new affinity.
        if body.flags & abi::XEN_VCPUAFFINITY_FORCE == 0 {
            return Err(errno::EBUSY);
        }
        (*pinned, hard) = (None, before);
    }
    let (hard, soft) = (new_hard.unwrap_or(hard), new_soft.unwrap_or(soft));
    if let Some(cpu) = SCHED.set_affinity(vcpu.unit, hard, soft, time::now_ns()) {
        work::raise(cpu, work::SCHEDULE);
    }
    drop(pinned);
    // Returns the effective sets to the caller.
    tell(guest, &body, hard.and(online), soft.and(online).and(hard))?;
    Ok(Answer::Write)
}

/// XEN_DOMCTL_getvcpuaffinity: returns a vCPU's hard or soft affinity, or both.
pub fn get(guest: Guest<'_>, dom: &Domain, op: &mut Domctl) -> Answered {
    let body = op.u.get::<VcpuAffinity>();
    let vcpu = subject(dom, &body)?;
    let (hard, soft) = SCHED.affinity(vcpu.unit).ok_or(errno::ESRCH)?;
    tell(guest, &body, hard, soft)?;
    Ok(Answer::Write)
}

fn tell(guest: Guest<'_>, body: &VcpuAffinity, hard: CpuSet, soft: CpuSet) -> Result<(), Errno> {
    if body.flags & abi::XEN_VCPUAFFINITY_HARD != 0 {
        ctl_bitmap::write(guest, &body.cpumap_hard, hard)?;
    }
    if body.flags & abi::XEN_VCPUAFFINITY_SOFT != 0 {
        ctl_bitmap::write(guest, &body.cpumap_soft, soft)?;
    }
    Ok(())
}

/// XEN_DOMCTL_setnodeaffinity: accepts every set that contains the only node, and changes nothing.
pub fn set_nodes(guest: Guest<'_>, op: &Domctl) -> Answered {
    let nodes = ctl_bitmap::read(guest, &op.u.get::<NodeAffinity>().nodemap)?;
    if nodes.and(NODES).is_empty() {
        return Err(errno::EINVAL);
    }
    Ok(Answer::Done)
}

/// XEN_DOMCTL_getnodeaffinity: returns the only node.
pub fn get_nodes(guest: Guest<'_>, op: &Domctl) -> Answered {
    ctl_bitmap::write(guest, &op.u.get::<NodeAffinity>().nodemap, NODES)?;
    Ok(Answer::Write)
}
