//! Pausing, resuming and poking a domain.

use alloc::sync::Arc;
use guest_pv_abi::domctl::{self as abi, Domctl, SendTrigger};
use guest_pv_abi::errno::{self, Errno};

use super::{Answer, Answered, not_itself};
use crate::domain::{Domain, notify, shutdown};
use crate::hypercall::Ctx;
use crate::kit::VcpuId;
use crate::life::pausing;

/// XEN_DOMCTL_pausedomain: counted, and none of its vCPUs runs when it returns.
pub fn pause(ctx: &Ctx<'_>, dom: &Arc<Domain>) -> Answered {
    not_itself(ctx, dom)?;
    pausing::toolstack_pause(ctx.vcpu, dom).map_err(refused)?;
    Ok(Answer::Done)
}

/// XEN_DOMCTL_unpausedomain
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

/// XEN_DOMCTL_resumedomain: a domain that shut down goes on.
pub fn resume(ctx: &Ctx<'_>, dom: &Arc<Domain>) -> Answered {
    not_itself(ctx, dom)?;
    shutdown::resume(dom);
    Ok(Answer::Done)
}

/// XEN_DOMCTL_sendtrigger: an NMI; the rest is for firmware that a PV domain has not.
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
