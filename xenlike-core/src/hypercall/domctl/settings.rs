//! Small settings: handle, debugger, time offset, where virtual IRQs go.

use crate::kit::atomic::Ordering;
use alloc::sync::Arc;

use guest_pv_abi::domctl::{
    Domctl, SetDebugging, SetDomainHandle, SetTimeOffset, SetVirqHandler, Subscribe,
};
use guest_pv_abi::errno;

use super::{Answer, Answered, not_itself};
use crate::domain::{Domain, notify, time};
use crate::event;
use crate::hypercall::Ctx;

/// XEN_DOMCTL_setdomainhandle
pub fn handle(dom: &Domain, op: &Domctl) -> Answered {
    *dom.handle.lock() = op.u.get::<SetDomainHandle>().handle;
    Ok(Answer::Done)
}

/// XEN_DOMCTL_setdebugging: only noted, for getdomaininfo.
pub fn debugging(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    not_itself(ctx, dom)?;
    let enable = op.u.get::<SetDebugging>().enable != 0;
    dom.is_debugged.store(enable, Ordering::Relaxed);
    Ok(Answer::Done)
}

/// XEN_DOMCTL_settimeoffset: seconds that the domain's wall clock differs from the machine's.
pub fn time_offset(dom: &Domain, op: &Domctl) -> Answered {
    let seconds = op.u.get::<SetTimeOffset>().time_offset_seconds;
    dom.time_offset_s.store(seconds as u64, Ordering::Relaxed);
    time::publish_wall_clock(dom);
    Ok(Answer::Done)
}

/// XEN_DOMCTL_subscribe: an event by this port of the domain's tells when it has suspended.
pub fn subscribe(dom: &Domain, op: &Domctl) -> Answered {
    dom.shutdown.lock().suspend_port = op.u.get::<Subscribe>().port;
    Ok(Answer::Done)
}

/// XEN_DOMCTL_set_virq_handler: the domain takes a global virtual IRQ over.
pub fn virq_handler(dom: &Arc<Domain>, op: &Domctl) -> Answered {
    let virq = op.u.get::<SetVirqHandler>().virq;
    if virq as usize >= event::NR_VIRQS || event::is_per_vcpu(virq) {
        return Err(errno::EINVAL);
    }
    notify::set_virq_handler(virq, dom);
    Ok(Answer::Done)
}
