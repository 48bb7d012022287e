//! A vCPU's MSRs, for save and restore: those that are neither part of its context nor common to all vCPUs.

use alloc::sync::Arc;

use guest_pv_abi::domctl::{Domctl, VcpuMsr, VcpuMsrs};
use guest_pv_abi::errno;

use super::extstate::other;
use super::{Answer, Answered};
use crate::arch::msr::nr;
use crate::cpuid::Policy;
use crate::domain::{Domain, VcpuState};
use crate::hypercall::{Ctx, with_stopped};
use crate::kit::Vaddr;

/// The MSRs that are saved and restored.
const CARRIED: [u32; 2] = [nr::MISC_FEATURES_ENABLES, nr::TSC_AUX];

fn value(st: &VcpuState, index: u32) -> u64 {
    match index {
        nr::MISC_FEATURES_ENABLES => st.msrs.misc_features,
        nr::TSC_AUX => u64::from(st.msrs.tsc_aux),
        _ => 0,
    }
}

/// Sets an MSR if the guest itself could set that value; returns false otherwise.
fn set(st: &mut VcpuState, policy: &Policy, msr: &VcpuMsr) -> bool {
    match (msr.index, u32::try_from(msr.value)) {
        (nr::MISC_FEATURES_ENABLES, _) if msr.value & !policy.misc_features_allowed() == 0 => {
            st.msrs.misc_features = msr.value;
        }
        (nr::TSC_AUX, Ok(value)) if policy.has_tsc_aux() => st.msrs.tsc_aux = value,
        _ => return false,
    }
    true
}

/// XEN_DOMCTL_get_vcpu_msrs: returns the MSRs that are not 0. Without a buffer, returns their maximum number.
pub(super) fn get_msrs(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &mut Domctl) -> Answered {
    let mut body = op.u.get::<VcpuMsrs>();
    let vcpu = other(ctx, dom, body.vcpu)?;
    if body.msrs.0 == 0 {
        body.msr_count = CARRIED.len() as u32;
        op.u.set(&body);
        return Ok(Answer::Write);
    }
    let values = with_stopped(ctx, vcpu, |st| {
        CARRIED.map(|index| (index, value(st, index)))
    })?;
    let mut count = 0u32;
    for (index, value) in values.into_iter().filter(|(_, value)| *value != 0) {
        if count < body.msr_count {
            let msr = VcpuMsr {
                index,
                reserved: 0,
                value,
            };
            ctx.guest()
                .write_at(Vaddr(body.msrs.0), count.into(), &msr)?;
        }
        count = count.saturating_add(1);
    }
    if count > body.msr_count {
        return Err(errno::ENOBUFS);
    }
    body.msr_count = count;
    op.u.set(&body);
    Ok(Answer::Write)
}

/// XEN_DOMCTL_set_vcpu_msrs: sets a vCPU's MSRs. EINVAL for a value that the guest itself could not set.
pub(super) fn set_msrs(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    let body = op.u.get::<VcpuMsrs>();
    let vcpu = other(ctx, dom, body.vcpu)?;
    if body.msr_count as usize > CARRIED.len() {
        return Err(errno::EINVAL);
    }
    let policy = dom.cpuid.lock().clone();
    for n in 0..body.msr_count {
        let msr: VcpuMsr = ctx.guest().read_at(Vaddr(body.msrs.0), n.into())?;
        let done = msr.reserved == 0 && with_stopped(ctx, vcpu, |st| set(st, &policy, &msr))?;
        if !done {
            return Err(errno::EINVAL);
        }
    }
    Ok(Answer::Done)
}
