//! Control calls for features that don't exist here: shadow modes, device assignment, memory sharing, tracing. Each
//! gets the errno that Xen 4.20 returns for a PV domain.

use alloc::sync::Arc;

use guest_pv_abi::domctl::{self as abi, Domctl, SetTarget, ShadowOp, Vnuma};
use guest_pv_abi::errno::{self, Errno};

use crate::domain::{self, Domain};
use crate::hypercall::Ctx;
use crate::kit::DomId;

/// XEN_DOMCTL_soft_reset_cont, which the public header defines for Xen's own use only.
const SOFT_RESET_CONT: u32 = 23;

/// Returns the errno of `op` for the domain `dom`.
pub fn errno(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Errno {
    let itself = Arc::ptr_eq(ctx.dom, dom);
    match op.cmd {
        abi::XEN_DOMCTL_SHADOW_OP => match op.u.get::<ShadowOp>().op {
            abi::XEN_DOMCTL_SHADOW_OP_OFF => errno::EINVAL,
            _ => errno::EOPNOTSUPP,
        },
        abi::XEN_DOMCTL_SET_TARGET => set_target(dom, op),
        // No domain's memory can be monitored. Monitoring oneself is refused with an errno of its own, as in Xen.
        abi::XEN_DOMCTL_SET_ACCESS_REQUIRED | abi::XEN_DOMCTL_MONITOR_OP if itself => errno::EPERM,
        abi::XEN_DOMCTL_VM_EVENT_OP if itself => errno::EINVAL,
        abi::XEN_DOMCTL_SETVNUMAINFO if op.u.get::<Vnuma>().nr_vnodes == 0 => errno::EINVAL,
        abi::XEN_DOMCTL_GETHVMCONTEXT
        | abi::XEN_DOMCTL_SETHVMCONTEXT
        | abi::XEN_DOMCTL_GETHVMCONTEXT_PARTIAL
        | abi::XEN_DOMCTL_BIND_PT_IRQ
        | abi::XEN_DOMCTL_UNBIND_PT_IRQ
        | abi::XEN_DOMCTL_DEBUG_OP
        | abi::XEN_DOMCTL_VMTRACE_OP
        | abi::XEN_DOMCTL_SET_BROKEN_PAGE_P2M
        | abi::XEN_DOMCTL_SOFT_RESET
        | SOFT_RESET_CONT => errno::EINVAL,
        abi::XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE
        | abi::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE
        | abi::XEN_DOMCTL_IOPORT_MAPPING
        | abi::XEN_DOMCTL_SETVNUMAINFO
        | abi::XEN_DOMCTL_VM_EVENT_OP
        | abi::XEN_DOMCTL_SET_ACCESS_REQUIRED
        | abi::XEN_DOMCTL_SET_LLC_COLORS
        | abi::XEN_DOMCTL_MONITOR_OP => errno::EOPNOTSUPP,
        abi::XEN_DOMCTL_PSR_CMT_OP | abi::XEN_DOMCTL_PSR_ALLOC => errno::ENODEV,
        // Devices can't be assigned, because the core uses no IOMMU.
        abi::XEN_DOMCTL_ASSIGN_DEVICE
        | abi::XEN_DOMCTL_TEST_ASSIGN_DEVICE
        | abi::XEN_DOMCTL_DEASSIGN_DEVICE
        | abi::XEN_DOMCTL_GET_DEVICE_GROUP => errno::EOPNOTSUPP,
        _ => errno::ENOSYS,
    }
}

/// set_target gives a domain rights over one other domain, for device models, which PV domains don't have.
fn set_target(dom: &Domain, op: &Domctl) -> Errno {
    match domain::lookup(DomId(op.u.get::<SetTarget>().target)) {
        None => errno::ESRCH,
        Some(other) if other.id() == dom.id() => errno::EINVAL,
        Some(_) => errno::EOPNOTSUPP,
    }
}
