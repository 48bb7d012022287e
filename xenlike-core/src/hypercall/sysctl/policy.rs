//! The CPUID policies and featuresets of the machine and of PV domains.

use guest_pv_abi::cpufeatureset::FEATURESET_WORDS;
use guest_pv_abi::errno;
use guest_pv_abi::sysctl::{self as abi, CpuFeatureset, CpuLevellingCaps, CpuPolicy, Sysctl};

use super::{Answer, Back};
use crate::cpuid::Policy;
use crate::cpuid::machine;
use crate::kit::Vaddr;
use crate::mm::guest::Guest;

/// The policy of HVM domains, which can't exist here. It is empty, as on a Xen whose CPU has no virtualisation
/// extensions.
static NO_HVM: Policy = Policy::EMPTY;

/// Returns the first words of the machine's featureset.
pub(super) fn host_features() -> impl Iterator<Item = u32> {
    machine().host.featureset().into_iter()
}

/// XEN_SYSCTL_get_cpu_levelling_caps: returns 0, because no feature is masked in hardware.
pub fn levelling_caps(op: &mut Sysctl) -> Answer {
    op.u.set(&CpuLevellingCaps { caps: 0 });
    Ok(Back::Write)
}

/// XEN_SYSCTL_get_cpu_featureset: returns a featureset. Without an array, returns the number of its words.
pub fn featureset(guest: Guest<'_>, op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<CpuFeatureset>();
    if !body.features.is_null() {
        let policy = match body.index {
            abi::XEN_SYSCTL_CPU_FEATURESET_RAW => &machine().raw,
            abi::XEN_SYSCTL_CPU_FEATURESET_HOST => &machine().host,
            abi::XEN_SYSCTL_CPU_FEATURESET_PV => &machine().pv_default,
            abi::XEN_SYSCTL_CPU_FEATURESET_PV_MAX => &machine().pv_max,
            abi::XEN_SYSCTL_CPU_FEATURESET_HVM | abi::XEN_SYSCTL_CPU_FEATURESET_HVM_MAX => &NO_HVM,
            _ => return Err(errno::EINVAL),
        };
        let words = policy.featureset();
        for (n, word) in words.iter().take(body.nr_features as usize).enumerate() {
            guest.write_at(Vaddr(body.features.0), n as u64, word)?;
        }
        if (body.nr_features as usize) < words.len() {
            return Err(errno::ENOBUFS);
        }
    }
    body.nr_features = FEATURESET_WORDS as u32;
    op.u.set(&body);
    Ok(Back::Write)
}

/// XEN_SYSCTL_get_cpu_policy: returns a policy as CPUID leaves and MSRs. ENOBUFS if an array is too small.
pub fn cpu_policy(guest: Guest<'_>, op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<CpuPolicy>();
    let policy: &Policy = match body.index {
        abi::XEN_SYSCTL_CPU_POLICY_RAW => &machine().raw,
        abi::XEN_SYSCTL_CPU_POLICY_HOST => &machine().host,
        abi::XEN_SYSCTL_CPU_POLICY_PV_MAX => &machine().pv_max,
        abi::XEN_SYSCTL_CPU_POLICY_PV_DEFAULT => &machine().pv_default,
        abi::XEN_SYSCTL_CPU_POLICY_HVM_MAX | abi::XEN_SYSCTL_CPU_POLICY_HVM_DEFAULT => &NO_HVM,
        _ => return Err(errno::EINVAL),
    };
    let (leaves, msrs) = crate::hypercall::domctl::write_policy(
        guest,
        policy,
        (body.leaves, body.nr_leaves),
        (body.msrs, body.nr_msrs),
    )?;
    (body.nr_leaves, body.nr_msrs) = (leaves, msrs);
    op.u.set(&body);
    Ok(Back::Write)
}
