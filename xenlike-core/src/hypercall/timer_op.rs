//! set_timer_op: the vCPU's one-shot timer.

use crate::kit::atomic::Ordering;

use guest_pv_abi::errno::Errno;

use super::arguments::SetTimerOp;
use super::{Ctx, no_memory};
use crate::domain::time;

/// `set_timer_op(deadline)`: arms the timer for a deadline in ns of system time. A deadline in the past fires at
/// once; 0 stops the timer.
pub fn set(ctx: &mut Ctx<'_>, args: &SetTimerOp) -> Result<(), Errno> {
    let deadline_ns = args.deadline_ns;
    let vcpu = ctx.vcpu;
    if deadline_ns == 0 {
        vcpu.singleshot_ns.store(0, Ordering::Release);
        time::TIMERS.cancel(&vcpu.timers.singleshot);
        return Ok(());
    }
    vcpu.singleshot_ns.store(deadline_ns, Ordering::Release);
    time::set_timer(&vcpu.timers.singleshot, deadline_ns).map_err(no_memory)
}
