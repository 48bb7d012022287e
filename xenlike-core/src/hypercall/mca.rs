//! mca (arch_0): machine checks. The core has no telemetry to give: a machine check ends it, with the
//! banks on the screen. Domain 0 learns of the CPUs, so that its daemon can start.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::mca as abi;

use super::{Args, Ctx, get, put};
use crate::arch::lapic;
use crate::cpuid;
use crate::domain::notify::SCHED;
use crate::kit::{CpuId, Vaddr};
use crate::mm::guest_copy::write_at;

/// `mca(op)`: EPERM without control rights, EFAULT, EINVAL for another version, in this order.
#[inline(never)] // one body for both tables
pub fn call(ctx: &Ctx<'_>, args: Args) -> Result<i64, Errno> {
    ctx.require_control()?;
    let [at, ..] = args.0;
    let mut op = get::<abi::McHead>(at)?;
    if op.interface_version != abi::XEN_MCA_INTERFACE_VERSION {
        return Err(errno::EINVAL);
    }
    match op.cmd {
        abi::XEN_MC_FETCH => fetch(&mut op)?,
        abi::XEN_MC_PHYSCPUINFO => cpus(&mut op)?,
        // Errors can't be injected.
        abi::XEN_MC_MSRINJECT | abi::XEN_MC_MCEINJECT | abi::XEN_MC_INJECT_V2 => {
            return Err(errno::EOPNOTSUPP);
        }
        _ => return Err(errno::EINVAL),
    }
    put(at, &op)?;
    Ok(0)
}

/// Nothing waits to be fetched, and so nothing to be acknowledged.
fn fetch(op: &mut abi::McHead) -> Result<(), Errno> {
    let mut body = op.u.get::<abi::McFetch>();
    let wanted = body.flags & !abi::XEN_MC_ACK;
    if !matches!(wanted, abi::XEN_MC_NONURGENT | abi::XEN_MC_URGENT) {
        return Err(errno::EINVAL);
    }
    if body.flags & abi::XEN_MC_ACK != 0 {
        body.flags = abi::XEN_MC_OK;
    } else if body.data.0 == 0 {
        return Err(errno::EINVAL);
    } else {
        (body.flags, body.fetch_id) = (abi::XEN_MC_NODATA, 0);
    }
    op.u.set(&body);
    Ok(())
}

/// How many CPUs there are, and, as far as there is room, of each what it is.
fn cpus(op: &mut abi::McHead) -> Result<(), Errno> {
    let mut body = op.u.get::<abi::McPhyscpuinfo>();
    let online = SCHED.online().count();
    if body.info.0 == 0 {
        body.ncpus = online;
    } else {
        if body.ncpus == 0 {
            return Err(errno::EINVAL);
        }
        body.ncpus = body.ncpus.min(online);
        for cpu in 0..body.ncpus {
            let told = about(CpuId(cpu), online);
            write_at(Vaddr(body.info.0), u64::from(cpu), &told).map_err(|_| errno::EFAULT)?;
        }
    }
    op.u.set(&body);
    Ok(())
}

fn about(cpu: CpuId, online: u32) -> abi::McLogicalCpu {
    let host = &cpuid::machine().host;
    let (zero, one) = (host.basic(0), host.basic(1));
    let signature = cpuid::signature(one.a);
    let mut told = abi::McLogicalCpu {
        cpunr: cpu.0,
        apicid: lapic::id_of(cpu),
        coreid: cpu.0 as u16,
        ncores: online,
        ncores_active: online,
        nthreads: 1,
        cpuid_level: zero.a as i32,
        family: signature.family,
        model: signature.model,
        step: signature.stepping,
        ..abi::McLogicalCpu::default()
    };
    let name = [zero.b, zero.d, zero.c];
    for (to, from) in told
        .vendorid
        .iter_mut()
        .zip(name.iter().flat_map(|word| word.to_le_bytes()))
    {
        *to = from;
    }
    told.cpu_caps[0] = one.d;
    told.cpu_caps[4] = one.c;
    told
}
