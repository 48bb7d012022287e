//! Hypercalls that the core does not have, each with the errno that Xen 4.20 gives for it.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::others::{XENPMU_FEATURE_GET, XENPMU_FINISH, XENPMU_LVTPC_SET};
use guest_pv_abi::xen::hypercall as nr;

use super::{Args, Ctx};

/// Refuses hypercall `number`.
pub fn call(ctx: &Ctx<'_>, number: u64, args: Args) -> Result<i64, Errno> {
    Err(match number {
        // A PV domain reads a hypervisor parameter of an HVM domain that isn't one.
        nr::HVM_OP => hvm_op(args),
        nr::XENPMU_OP => xenpmu_op(args),
        // Only for a device model's domain; the toolstack probes it with no buffer.
        nr::DM_OP if !ctx.dom.is_control() => errno::EPERM,
        nr::KEXEC_OP if !ctx.dom.is_control() => errno::EPERM,
        nr::HYPFS_OP if !ctx.dom.is_control() => errno::EPERM,
        nr::ARGO_OP => errno::EOPNOTSUPP,
        nr::DM_OP => errno::EOPNOTSUPP,
        // xsm_op: Xen without XSM; libxl takes another way for any other answer. xenoprof,
        // tmem, kexec, hypfs and numbers that mean nothing are answered alike.
        _ => errno::ENOSYS,
    })
}

fn hvm_op(args: Args) -> Errno {
    let [op, ..] = args.0;
    match op as u32 {
        HVMOP_SET_PARAM | HVMOP_GET_PARAM => errno::EINVAL,
        _ => errno::ENOSYS,
    }
}

/// hvm/hvm_op.h
const HVMOP_SET_PARAM: u32 = 0;
const HVMOP_GET_PARAM: u32 = 1;

/// Without a virtual PMU every operation that exists is refused in one way.
fn xenpmu_op(args: Args) -> Errno {
    let [op, ..] = args.0;
    match op as u32 {
        0..=XENPMU_FINISH | XENPMU_FEATURE_GET..=XENPMU_LVTPC_SET => errno::EOPNOTSUPP,
        _ => errno::EINVAL,
    }
}
