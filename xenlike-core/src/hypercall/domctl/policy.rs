//! Reads and writes a domain's CPUID policy.

use alloc::sync::Arc;

use guest_pv_abi::Form;
use guest_pv_abi::GuestHandle;
use guest_pv_abi::arch_x86::{CpuidLeaf, MsrEntry};
use guest_pv_abi::domctl::{CpuPolicy, Domctl};
use guest_pv_abi::errno::{self, Errno};

use super::{Answer, Answered, not_itself};
use crate::cpuid::Policy;
use crate::cpuid::machine;
use crate::cpuid::serial::{MAX_LEAVES, MAX_MSRS, Refusal};
use crate::domain::Domain;
use crate::hypercall::Ctx;
use crate::kit::Vaddr;
use crate::mm::guest::Guest;

/// A caller's array and the number of its elements.
type Array = (GuestHandle, u32);

/// Writes a policy to the caller's arrays, and returns its numbers of leaves and MSRs. For a null array, returns the
/// maximum of any policy.
pub fn write_policy(
    guest: Guest<'_>,
    policy: &Policy,
    leaves: Array,
    msrs: Array,
) -> Result<(u32, u32), Errno> {
    let (mut leaf_count, mut msr_count) = (0, 0);
    if leaves.0.is_null() {
        leaf_count = MAX_LEAVES;
    } else {
        policy.write_leaves(|leaf| write_element(guest, leaves, &mut leaf_count, &leaf))?;
    }
    if msrs.0.is_null() {
        return Ok((leaf_count, MAX_MSRS));
    }
    for msr in policy.msrs() {
        write_element(guest, msrs, &mut msr_count, &msr)?;
    }
    Ok((leaf_count, msr_count))
}

fn write_element<T: Form>(
    guest: Guest<'_>,
    (array, room): Array,
    index: &mut u32,
    item: &T,
) -> Result<(), Errno> {
    if *index >= room {
        return Err(errno::ENOBUFS);
    }
    guest.write_at(Vaddr(array.0), u64::from(*index), item)?;
    *index = index.saturating_add(1);
    Ok(())
}

/// XEN_DOMCTL_get_cpu_policy: returns a domain's policy. ENOBUFS if an array is too small.
pub fn get(guest: Guest<'_>, dom: &Domain, op: &mut Domctl) -> Answered {
    let mut body = op.u.get::<CpuPolicy>();
    let policy = dom.cpuid.lock().clone();
    let (leaves, msrs) = write_policy(
        guest,
        &policy,
        (body.leaves, body.nr_leaves),
        (body.msrs, body.nr_msrs),
    )?;
    (body.nr_leaves, body.nr_msrs) = (leaves, msrs);
    op.u.set(&body);
    Ok(Answer::Write)
}

/// XEN_DOMCTL_set_cpu_policy: changes the given leaves and MSRs of a domain's policy. As in Xen, values that the
/// machine or a PV domain can't have are refused or removed. EEXIST once a vCPU is up.
pub fn set(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    not_itself(ctx, dom)?;
    let body = op.u.get::<CpuPolicy>();
    if dom.vcpus().iter().any(|vcpu| vcpu.is_up()) {
        return Err(errno::EEXIST);
    }
    if body.nr_leaves > MAX_LEAVES || body.nr_msrs > MAX_MSRS {
        return Err(errno::E2BIG);
    }
    let mut policy = dom.cpuid.lock().clone();
    for n in 0..body.nr_leaves {
        let leaf: CpuidLeaf = ctx.guest().read_at(Vaddr(body.leaves.0), n.into())?;
        policy.set_leaf(&leaf).map_err(refusal)?;
    }
    for n in 0..body.nr_msrs {
        let msr: MsrEntry = ctx.guest().read_at(Vaddr(body.msrs.0), n.into())?;
        policy.set_msr(&msr).map_err(refusal)?;
    }
    policy.check_against(&machine().pv_max).map_err(refusal)?;
    machine().clamp(&mut policy);
    *dom.cpuid.lock() = policy;
    Ok(Answer::Done)
}

fn refusal(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::UnknownLeaf { .. } | Refusal::UnknownMsr(_) => errno::ERANGE,
        Refusal::BadLeaf { .. } | Refusal::BadMsr(_) => errno::EINVAL,
    }
}
