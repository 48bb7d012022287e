//! Information on each CPU, and CPU hotplug.

use guest_pv_abi::errno;
use guest_pv_abi::sysctl::{
    self as abi, CpuHotplug, CpuTopo, CpuTopoInfo, GetCpuInfo, GetPmstat, Sysctl,
};

use super::machine::cpu_count;
use super::{Answer, Back};
use crate::domain::notify::SCHED;
use crate::domain::time::idle_ns;
use crate::kit::{CpuId, Vaddr};
use crate::life::hotplug::{self, Refused};
use crate::mm::guest::Guest;

/// XEN_SYSCTL_getcpuinfo: returns each CPU's idle time in ns.
pub fn getcpuinfo(guest: Guest<'_>, op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<GetCpuInfo>();
    let count = cpu_count().min(body.max_cpus);
    for cpu in 0..count {
        let info = abi::CpuInfo {
            idletime: idle_ns(CpuId(cpu)),
        };
        guest.write_at(Vaddr(body.info.0), u64::from(cpu), &info)?;
    }
    body.nr_cpus = count;
    op.u.set(&body);
    Ok(Back::Write)
}

/// XEN_SYSCTL_cputopoinfo: describes every CPU as a core of one socket.
pub fn cputopoinfo(guest: Guest<'_>, op: &mut Sysctl) -> Answer {
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
            guest.write_at(Vaddr(body.cputopo.0), u64::from(cpu), &place)?;
        }
    }
    body.num_cpus = count;
    op.u.set(&body);
    Ok(Back::Write)
}

fn is_online(cpu: u32) -> bool {
    SCHED.online().find(cpu).is_some()
}

/// XEN_SYSCTL_cpu_hotplug: takes a CPU online or offline.
pub fn hotplug(op: &Sysctl) -> Answer {
    let body = op.u.get::<CpuHotplug>();
    let done = match body.op {
        abi::XEN_SYSCTL_CPU_HOTPLUG_ONLINE => hotplug::online(body.cpu),
        abi::XEN_SYSCTL_CPU_HOTPLUG_OFFLINE => match hotplug::offline(body.cpu) {
            Err(Refused::Already) => return Err(errno::EINVAL),
            done => done,
        },
        // SMT can't be switched, because every CPU counts as a core of its own.
        _ => return Err(errno::EOPNOTSUPP),
    };
    done.map(|()| Back::Keep).map_err(|refused| match refused {
        Refused::Absent | Refused::First => errno::EINVAL,
        Refused::Already => errno::EEXIST,
        Refused::NoMemory => errno::ENOMEM,
    })
}

/// XEN_SYSCTL_get_pmstat: always fails, because no driver manages frequencies or idle states.
pub fn power(op: &Sysctl) -> Answer {
    Err(if is_online(op.u.get::<GetPmstat>().cpuid) {
        errno::ENODEV
    } else {
        errno::EINVAL
    })
}
