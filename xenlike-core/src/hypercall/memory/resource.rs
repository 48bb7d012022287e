//! XENMEM_acquire_resource: frames of a domain's own equipment that its toolstack maps. A PV domain
//! has one such: its grant table.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::memory::{
    MemAcquireResource, XENMEM_ACQUIRE_RESOURCE, XENMEM_RESOURCE_GRANT_TABLE,
    XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
};

use super::{Args, Ctx, Outcome, again, get};
use crate::domain::Domain;
use crate::hypercall::{grant_table, put};
use crate::kit::{DomId, Mfn, Vaddr};
use crate::mm::guest_copy;
use crate::pagetype::Progress;

pub(super) fn acquire(ctx: &mut Ctx<'_>, args: &mut Args, start: u64) -> Outcome {
    let [_, at, ..] = args.0;
    match try_acquire(ctx, at, start) {
        Ok(Some(done)) => again(args, XENMEM_ACQUIRE_RESOURCE, done),
        Ok(None) => Outcome::Done(0),
        Err(errno) => errno.into(),
    }
}

/// Tells how many frames were done, if some are left.
fn try_acquire(ctx: &Ctx<'_>, at: u64, start: u64) -> Result<Option<u64>, Errno> {
    let mut asked: MemAcquireResource = get(at)?;
    if asked.pad != 0 {
        return Err(errno::EINVAL);
    }
    if DomId(asked.domid) == DomId::SELF || DomId(asked.domid) == ctx.dom.id() {
        return Err(errno::EPERM);
    }
    let dom = ctx.target(asked.domid)?;
    let most = most_frames(&dom, &asked).ok_or(errno::EINVAL)?;
    if asked.frame_list.0 == 0 {
        if asked.nr_frames != 0 || start != 0 {
            return Err(errno::EINVAL);
        }
        asked.nr_frames = most;
        return put(at, &asked).map(|()| None);
    }
    let last = asked
        .frame
        .checked_add(asked.nr_frames.into())
        .ok_or(errno::EINVAL)?;
    if last > u64::from(most) || start > u64::from(asked.nr_frames) {
        return Err(errno::EINVAL);
    }
    for n in start..u64::from(asked.nr_frames) {
        if n != start && ctx.preempted() {
            return Ok(Some(n));
        }
        let mfn = match frame(&dom, asked.frame.wrapping_add(n) as u32) {
            Err(errno::ERESTART) => return Ok(Some(n)),
            other => other?,
        };
        guest_copy::write_at(Vaddr(asked.frame_list.0), n, &mfn.0).map_err(|_| errno::EFAULT)?;
    }
    Ok(None)
}

fn most_frames(dom: &Domain, asked: &MemAcquireResource) -> Option<u32> {
    let is_grant_table = u32::from(asked.type_) == XENMEM_RESOURCE_GRANT_TABLE
        && asked.id == XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED;
    is_grant_table.then(|| dom.grants.size().1)
}

/// Frame number `n` of the grant table, which grows up to it; [`errno::ERESTART`] if only some way.
fn frame(dom: &Domain, n: u32) -> Result<Mfn, Errno> {
    if n >= dom.grants.size().0 {
        match grant_table::grow(dom, n.saturating_add(1)) {
            Ok(Progress::Done) => {}
            Ok(Progress::Again) => return Err(errno::ERESTART),
            Err(_) => return Err(errno::ENOMEM),
        }
    }
    dom.grants
        .with_frame(n, |page| page.page().mfn())
        .ok_or(errno::EINVAL)
}
