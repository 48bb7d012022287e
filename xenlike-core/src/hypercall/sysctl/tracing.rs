//! tbuf_op: the trace buffers, and the choice of CPUs and events to trace.

use guest_pv_abi::errno;
use guest_pv_abi::sysctl::{self as abi, Sysctl, TbufOp};

use super::{Answer, Back};
use crate::arch::work;
use crate::hypercall::ctl_bitmap;
use crate::kit::atomic::Ordering::Relaxed;
use crate::life::trace_buffers::{self, Progress, Refused};
use crate::mm::guest::Guest;
use crate::trace;

/// XEN_SYSCTL_tbuf_op: sets up, enables, disables and describes the trace buffers.
pub fn tbuf_op(guest: Guest<'_>, op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<TbufOp>();
    match body.cmd {
        abi::XEN_SYSCTL_TBUFOP_GET_INFO => {
            body.evt_mask = trace::EVENTS.load(Relaxed);
            (body.buffer_mfn, body.size) =
                trace_buffers::info().map_or((0, 0), |info| (info.0, trace_buffers::INFO_BYTES));
            op.u.set(&body);
        }
        abi::XEN_SYSCTL_TBUFOP_SET_CPU_MASK => {
            trace::CPUS.store(ctl_bitmap::read(guest, &body.cpu_mask)?.0, Relaxed)
        }
        abi::XEN_SYSCTL_TBUFOP_SET_EVT_MASK => trace::EVENTS.store(body.evt_mask, Relaxed),
        abi::XEN_SYSCTL_TBUFOP_SET_SIZE => match trace_buffers::make(body.size, work::preempts) {
            Ok(Progress::Done) => {}
            Ok(Progress::Again) => return Err(errno::ERESTART),
            Err(Refused::BadSize) => return Err(errno::EINVAL),
            Err(Refused::Exist) => return Err(errno::EBUSY),
            Err(Refused::NoMemory) => return Err(errno::ENOMEM),
        },
        abi::XEN_SYSCTL_TBUFOP_ENABLE if trace_buffers::info().is_some() => trace::switch(true),
        abi::XEN_SYSCTL_TBUFOP_DISABLE => trace::switch(false),
        _ => return Err(errno::EINVAL),
    }
    Ok(Back::Write)
}
