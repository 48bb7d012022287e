//! scheduler_op: a domain's weight and cap, in the credit scheduler's numbers.

use guest_pv_abi::domctl::{self as abi, Domctl, SchedCredit, SchedulerOp};
use guest_pv_abi::errno;

use super::{Answer, Answered};
use crate::domain::Domain;

/// "Leave the cap as it is."
const SAME_CAP: u16 = u16::MAX;

/// XEN_DOMCTL_scheduler_op
pub fn call(dom: &Domain, op: &mut Domctl) -> Answered {
    let mut body = op.u.get::<SchedulerOp>();
    if body.sched_id != abi::XEN_SCHEDULER_CREDIT {
        return Err(errno::EINVAL);
    }
    match body.cmd {
        abi::XEN_DOMCTL_SCHEDOP_PUTINFO => {
            let wanted = body.u.get::<SchedCredit>();
            // A weight of 0 and a cap of 65535 leave things as they are.
            if wanted.weight != 0 {
                dom.share
                    .set_weight(wanted.weight)
                    .map_err(|_| errno::EINVAL)?;
            }
            if wanted.cap != SAME_CAP {
                dom.share
                    .set_cap_percent(wanted.cap)
                    .map_err(|_| errno::EINVAL)?;
            }
            Ok(Answer::Done)
        }
        abi::XEN_DOMCTL_SCHEDOP_GETINFO => {
            body.u.set(&SchedCredit {
                weight: dom.share.weight(),
                cap: dom.share.cap_percent(),
            });
            op.u.set(&body);
            Ok(Answer::Write)
        }
        _ => Err(errno::EINVAL),
    }
}
