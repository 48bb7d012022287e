//! getcpuinfo and cputopoinfo: each CPU by itself.

use guest_pv_abi::errno;
use guest_pv_abi::sysctl::{self as abi, CpuTopo, CpuTopoInfo, GetCpuInfo, Sysctl};

use super::machine::cpu_count;
use super::{Answer, Back};
use crate::domain::time::idle_ns;
use crate::kit::{CpuId, Vaddr};
use crate::mm::guest_copy::write_at;

/// XEN_SYSCTL_getcpuinfo: how long each CPU had nothing to run.
pub fn getcpuinfo(op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<GetCpuInfo>();
    let count = cpu_count().min(body.max_cpus);
    for cpu in 0..count {
        let info = abi::CpuInfo {
            idletime: idle_ns(CpuId(cpu)),
        };
        write_at(Vaddr(body.info.0), u64::from(cpu), &info).map_err(|_| errno::EFAULT)?;
    }
    body.nr_cpus = count;
    op.u.set(&body);
    Ok(Back::Write)
}

/// XEN_SYSCTL_cputopoinfo: every CPU is a core of one socket.
pub fn cputopoinfo(op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<CpuTopoInfo>();
    let count = cpu_count();
    if !body.cputopo.is_null() {
        if body.num_cpus < count {
            body.num_cpus = count;
            op.u.set(&body);
            return Err(errno::ENOBUFS);
        }
        for cpu in 0..count {
            let place = CpuTopo {
                core: cpu,
                socket: 0,
                node: 0,
            };
            write_at(Vaddr(body.cputopo.0), u64::from(cpu), &place).map_err(|_| errno::EFAULT)?;
        }
    }
    body.num_cpus = count;
    op.u.set(&body);
    Ok(Back::Write)
}
