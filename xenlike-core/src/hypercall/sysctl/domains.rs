//! getdomaininfolist: lists the domains from a given id on.

use guest_pv_abi::sysctl::{GetDomainInfoList, Sysctl};

use super::{Answer, Back};
use crate::domain::registry;
use crate::hypercall::domctl::info_of;
use crate::kit::{DomId, Vaddr};
use crate::mm::guest::Guest;

/// XEN_SYSCTL_getdomaininfolist: returns the domains from `first_domain` on, as many as fit.
pub fn getdomaininfolist(guest: Guest<'_>, op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<GetDomainInfoList>();
    let mut count = 0;
    for dom in registry::from(DomId(body.first_domain)) {
        if count == body.max_domains {
            break;
        }
        guest.write_at(Vaddr(body.buffer.0), u64::from(count), &info_of(&dom))?;
        count = count.saturating_add(1);
    }
    body.num_domains = count;
    op.u.set(&body);
    Ok(Back::Write)
}
