//! hvm_op: requests of HVM domains and their device models. A PV domain can read the time; most other commands fail,
//! because no domain here is HVM.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::hvm_params as abi;

use super::Ctx;
use super::arguments::Command;
use crate::arch::time;
use crate::kit::Vaddr;

/// `hvm_op(cmd, arg)`: answers as Xen does when the named domain is PV.
pub fn call(ctx: &Ctx<'_>, args: &Command) -> Result<i64, Errno> {
    let arg = args.arg;
    match args.cmd {
        abi::HVMOP_SET_PARAM | abi::HVMOP_GET_PARAM => {
            let asked = ctx.guest().read::<abi::HvmParam>(arg)?;
            if asked.index >= abi::HVM_NR_PARAMS {
                return Err(errno::EINVAL);
            }
            of_no_hvm_domain(ctx, asked.domid)
        }
        // Both structures begin with the domain's id.
        abi::HVMOP_PAGETABLE_DYING | abi::HVMOP_GET_MEM_TYPE => {
            let domid = ctx.guest().read::<u16>(arg)?;
            of_no_hvm_domain(ctx, domid)
        }
        abi::HVMOP_GET_TIME => {
            ctx.guest().write(arg, &time::now_ns())?;
            Ok(0)
        }
        abi::HVMOP_XENTRACE => trace(ctx, arg),
        abi::HVMOP_FLUSH_TLBS | abi::HVMOP_SET_EVTCHN_UPCALL_VECTOR => Err(errno::EINVAL),
        // No monitor is attached to the caller, so there is none to notify.
        abi::HVMOP_GUEST_REQUEST_VM_EVENT if arg.is_null() => Ok(0),
        abi::HVMOP_GUEST_REQUEST_VM_EVENT => Err(errno::EINVAL),
        abi::HVMOP_ALTP2M => Err(errno::EOPNOTSUPP),
        _ => Err(errno::ENOSYS),
    }
}

fn of_no_hvm_domain(ctx: &Ctx<'_>, id: u16) -> Result<i64, Errno> {
    match ctx.named(id) {
        None => Err(errno::ESRCH),
        Some(_) => Err(errno::EINVAL),
    }
}

/// Checks a guest's trace record and drops it, as Xen does while tracing is off.
fn trace(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    const EVENTS: u16 = 1 << 12;
    let record = ctx.guest().read::<abi::HvmXentrace>(arg)?;
    if usize::from(record.extra_bytes) > record.extra.len() || record.event >= EVENTS {
        return Err(errno::EINVAL);
    }
    Ok(0)
}
