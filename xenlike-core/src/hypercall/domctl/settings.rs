//! Small settings: handle, debugging, time offset, suspend event, handlers of virtual IRQs.

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

/// XEN_DOMCTL_setdomainhandle: sets the domain's UUID.
pub fn handle(dom: &Domain, op: &Domctl) -> Answered {
    *dom.handle.lock() = op.u.get::<SetDomainHandle>().handle;
    Ok(Answer::Done)
}

/// XEN_DOMCTL_setdebugging: only records the flag, which getdomaininfo returns.
pub fn debugging(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    not_itself(ctx, dom)?;
    let enable = op.u.get::<SetDebugging>().enable != 0;
    dom.is_debugged.store(enable, Ordering::Relaxed);
    Ok(Answer::Done)
}

/// XEN_DOMCTL_settimeoffset: sets the offset in seconds of the domain's wall clock from the machine's.
pub fn time_offset(dom: &Domain, op: &Domctl) -> Answered {
    let seconds = op.u.get::<SetTimeOffset>().time_offset_seconds;
    dom.time_offset_s.store(seconds as u64, Ordering::Relaxed);
    time::publish_wall_clock(dom);
    Ok(Answer::Done)
}

/// XEN_DOMCTL_subscribe: sets the port of the domain on which its suspension is signalled.
pub fn subscribe(dom: &Domain, op: &Domctl) -> Answered {
    dom.shutdown.lock().suspend_port = op.u.get::<Subscribe>().port;
    Ok(Answer::Done)
}

/// XEN_DOMCTL_set_virq_handler: makes the domain the handler of a global virtual IRQ. EINVAL for a per-vCPU one.
pub fn virq_handler(dom: &Arc<Domain>, op: &Domctl) -> Answered {
    let virq = op.u.get::<SetVirqHandler>().virq;
    if virq as usize >= event::NR_VIRQS || event::is_per_vcpu(virq) {
        return Err(errno::EINVAL);
    }
    notify::set_virq_handler(virq, dom);
    Ok(Answer::Done)
}
