//! scheduler_op: a domain's weight and cap, in the units of credit and credit2, which share one structure.

use guest_pv_abi::domctl::{self as abi, Domctl, SchedCredit, SchedulerOp};
use guest_pv_abi::errno;

use super::{Answer, Answered};
use crate::domain::Domain;
use crate::hypercall::sysctl::scheduler_id;
use crate::sched::name::{Name, name};

/// The cap that means "unchanged" to credit.
const SAME_CAP: u16 = u16::MAX;

/// XEN_DOMCTL_scheduler_op: sets or returns a domain's weight and cap. EINVAL if the scheduler's id is wrong.
pub fn call(dom: &Domain, op: &mut Domctl) -> Answered {
    let mut body = op.u.get::<SchedulerOp>();
    if body.sched_id != scheduler_id() {
        return Err(errno::EINVAL);
    }
    match body.cmd {
        abi::XEN_DOMCTL_SCHEDOP_PUTINFO => {
            let wanted = body.u.get::<SchedCredit>();
            // A weight of 0 means "unchanged".
            if wanted.weight != 0 {
                dom.share
                    .set_weight(wanted.weight)
                    .map_err(|_| errno::EINVAL)?;
            }
            set_cap(dom, wanted.cap)?;
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

/// Sets the cap, in percent of a CPU. Under the name credit2, a cap that the domain's vCPUs can't reach is refused,
/// as in Xen.
fn set_cap(dom: &Domain, percent: u16) -> Result<(), errno::Errno> {
    let most = dom.vcpus().len().saturating_mul(100);
    match name() {
        Name::Credit if percent == SAME_CAP => return Ok(()),
        Name::Credit2 if usize::from(percent) > most => return Err(errno::EINVAL),
        Name::Credit | Name::Credit2 => {}
    }
    dom.share
        .set_cap_percent(percent)
        .map_err(|_| errno::EINVAL)
}
