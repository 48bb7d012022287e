//! Pauses and resumes a domain, and sends it NMIs.

use alloc::sync::Arc;
use guest_pv_abi::domctl::{self as abi, Domctl, SendTrigger};
use guest_pv_abi::errno::{self, Errno};

use super::{Answer, Answered, not_itself};
use crate::domain::{Domain, notify, shutdown};
use crate::hypercall::Ctx;
use crate::kit::VcpuId;
use crate::life::pausing;

/// XEN_DOMCTL_pausedomain: increments the pause count. None of the domain's vCPUs runs when the call returns.
pub fn pause(ctx: &Ctx<'_>, dom: &Arc<Domain>) -> Answered {
    not_itself(ctx, dom)?;
    pausing::toolstack_pause(ctx.vcpu, dom).map_err(refused)?;
    Ok(Answer::Done)
}

/// XEN_DOMCTL_unpausedomain: decrements the pause count. EINVAL if the domain is not paused.
pub fn unpause(dom: &Arc<Domain>) -> Answered {
    pausing::toolstack_unpause(dom).map_err(refused)?;
    Ok(Answer::Done)
}

fn refused(why: pausing::Refused) -> Errno {
    match why {
        pausing::Refused::BadCount => errno::EINVAL,
        pausing::Refused::Again => errno::ERESTART,
    }
}

/// XEN_DOMCTL_resumedomain: resumes a domain that has shut down.
pub fn resume(ctx: &Ctx<'_>, dom: &Arc<Domain>) -> Answered {
    not_itself(ctx, dom)?;
    shutdown::resume(dom);
    Ok(Answer::Done)
}

/// XEN_DOMCTL_sendtrigger: sends an NMI. All other triggers are refused, because they need firmware that a PV domain
/// doesn't have.
pub fn send_trigger(dom: &Arc<Domain>, op: &Domctl) -> Answered {
    let body = op.u.get::<SendTrigger>();
    let vcpu = dom.vcpu(VcpuId(body.vcpu)).ok_or(errno::ESRCH)?;
    match body.trigger {
        abi::XEN_DOMCTL_SENDTRIGGER_NMI => notify::nmi(dom, vcpu),
        abi::XEN_DOMCTL_SENDTRIGGER_POWER | abi::XEN_DOMCTL_SENDTRIGGER_SLEEP => {
            return Err(errno::EINVAL);
        }
        _ => return Err(errno::ENOSYS),
    }
    Ok(Answer::Done)
}
