//! mca (arch_0): machine checks. Errors that the hardware corrected wait here for domain 0's daemon. An uncorrected
//! error stops the core, which prints the banks, so that no error ever counts as urgent.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::mca as abi;
use zerocopy::IntoBytes;

use super::Ctx;
use crate::arch::lapic;
use crate::cpuid;
use crate::domain::notify::SCHED;
use crate::kit::{CpuId, DomId, Vaddr};
use crate::life::machine_check::{self, Record};

/// `mca(at)`: reads machine check records or CPU information. EPERM without control rights, then EFAULT, then EINVAL
/// for another interface version.
pub fn call(ctx: &Ctx<'_>, at: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    let mut op = ctx.guest().read::<abi::McHead>(at)?;
    if op.interface_version != abi::XEN_MCA_INTERFACE_VERSION {
        return Err(errno::EINVAL);
    }
    match op.cmd {
        abi::XEN_MC_FETCH => fetch(ctx, &mut op)?,
        abi::XEN_MC_PHYSCPUINFO => cpus(ctx, &mut op)?,
        // Error injection is not supported.
        abi::XEN_MC_MSRINJECT | abi::XEN_MC_MCEINJECT | abi::XEN_MC_INJECT_V2 => {
            return Err(errno::EOPNOTSUPP);
        }
        _ => return Err(errno::EINVAL),
    }
    ctx.guest().write(at, &op)?;
    Ok(0)
}

/// Returns the oldest waiting record, or takes the acknowledgement of one.
fn fetch(ctx: &Ctx<'_>, op: &mut abi::McHead) -> Result<(), Errno> {
    let mut body = op.u.get_form::<abi::McFetch>(ctx.guest().width());
    let wanted = body.flags & !abi::XEN_MC_ACK;
    if !matches!(wanted, abi::XEN_MC_NONURGENT | abi::XEN_MC_URGENT) {
        return Err(errno::EINVAL);
    }
    let is_urgent = wanted == abi::XEN_MC_URGENT;
    if body.flags & abi::XEN_MC_ACK != 0 {
        if !is_urgent {
            machine_check::acknowledge(body.fetch_id);
        }
        body.flags = abi::XEN_MC_OK;
    } else if body.data.0 == 0 {
        return Err(errno::EINVAL);
    } else if let Some((id, record)) = (!is_urgent).then(machine_check::fetch).flatten() {
        (body.flags, body.fetch_id) = (abi::XEN_MC_OK, id);
        if ctx
            .guest()
            .write(Vaddr(body.data.0), &telemetry(&record))
            .is_err()
        {
            body.flags = abi::XEN_MC_FETCHFAILED;
        }
    } else {
        (body.flags, body.fetch_id) = (abi::XEN_MC_NODATA, 0);
    }
    op.u.set_form(&body, ctx.guest().width());
    Ok(())
}

/// Converts a record to the public header's layout: the CPU's entry, then the bank's.
fn telemetry(record: &Record) -> abi::McInfo {
    let common = |kind, size: usize| abi::McinfoCommon {
        kind,
        size: size as u16,
    };
    let when = |on: bool, bit: u32| if on { bit } else { 0 };
    let bank = &record.bank;
    let global = abi::McinfoGlobal {
        common: common(abi::MC_TYPE_GLOBAL, size_of::<abi::McinfoGlobal>()),
        mc_domid: DomId::XEN.0,
        mc_vcpuid: abi::XEN_MC_VCPUID_INVALID,
        mc_coreid: record.cpu.0 as u16,
        mc_apicid: lapic::id_of(record.cpu),
        mc_flags: when(!record.is_old, abi::MC_FLAG_POLLED)
            | when(record.is_old, abi::MC_FLAG_RESET)
            | when(bank.is_uncorrected(), abi::MC_FLAG_UNCORRECTABLE)
            | when(!bank.is_uncorrected(), abi::MC_FLAG_CORRECTABLE),
        mc_gstatus: record.global_status,
        ..abi::McinfoGlobal::default()
    };
    let bank = abi::McinfoBank {
        common: common(abi::MC_TYPE_BANK, size_of::<abi::McinfoBank>()),
        mc_bank: bank.number as u16,
        mc_domid: DomId::INVALID.0,
        mc_status: bank.status,
        mc_addr: bank.address,
        mc_misc: bank.misc,
        mc_tsc: record.tsc,
        ..abi::McinfoBank::default()
    };
    let mut info = abi::McInfo {
        mi_nentries: 2,
        ..abi::McInfo::default()
    };
    let entries = global.as_bytes().iter().chain(bank.as_bytes());
    for (to, from) in info.mi_data.as_mut_bytes().iter_mut().zip(entries) {
        *to = *from;
    }
    info
}

/// Returns the number of online CPUs, or describes as many as the caller has room for.
fn cpus(ctx: &Ctx<'_>, op: &mut abi::McHead) -> Result<(), Errno> {
    let mut body = op.u.get_form::<abi::McPhyscpuinfo>(ctx.guest().width());
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
            ctx.guest()
                .write_at(Vaddr(body.info.0), u64::from(cpu), &told)?;
        }
    }
    op.u.set_form(&body, ctx.guest().width());
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
    // IA32_MCG_CAP, equal on all CPUs. Linux looks for it here.
    told.nmsrvals = 1;
    told.msrvalues[0] = abi::McinfoMsr {
        reg: 0x179,
        value: crate::arch::machine_check::capabilities(),
    };
    told.cpu_caps[0] = one.d;
    told.cpu_caps[4] = one.c;
    told
}
