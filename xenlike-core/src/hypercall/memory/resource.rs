//! XENMEM_acquire_resource: returns frames of a domain's resources for its toolstack to map. A PV domain has one such
//! resource: its grant table, with status words in version 2.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::memory::{
    MemAcquireResource, XENMEM_RESOURCE_GRANT_TABLE, XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
    XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS,
};

use super::{Ctx, MemoryOp, Outcome};
use crate::domain::Domain;
use crate::domain::page::HeldPage;
use crate::grant::Version;
use crate::hypercall::grant_table;
use crate::kit::{DomId, Mfn, Vaddr};
use crate::mm::guest::Long;
use crate::pagetype::Progress;

pub(super) fn acquire(ctx: &mut Ctx<'_>, args: &mut MemoryOp) -> Outcome {
    match try_acquire(ctx, args.at, args.done()) {
        Ok(Some(done)) => args.again(done),
        Ok(None) => Outcome::Done(0),
        Err(errno) => errno.into(),
    }
}

/// Returns the number of frames done if some are left.
fn try_acquire(ctx: &Ctx<'_>, at: Vaddr, start: u64) -> Result<Option<u64>, Errno> {
    let mut asked: MemAcquireResource = ctx.guest().read(at)?;
    if asked.pad != 0 {
        return Err(errno::EINVAL);
    }
    if DomId(asked.domid) == DomId::SELF || DomId(asked.domid) == ctx.dom.id() {
        return Err(errno::EPERM);
    }
    let dom = ctx.target(asked.domid)?;
    let part = Part::asked(&dom, &asked).ok_or(errno::EINVAL)?;
    let most = part.size(&dom).1;
    if asked.frame_list.0 == 0 {
        if asked.nr_frames != 0 || start != 0 {
            return Err(errno::EINVAL);
        }
        asked.nr_frames = most;
        ctx.guest().write(at, &asked)?;
        return Ok(None);
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
        let mfn = match part.frame(&dom, asked.frame.wrapping_add(n) as u32) {
            Err(errno::ERESTART) => return Ok(Some(n)),
            other => other?,
        };
        ctx.guest()
            .write_at(Vaddr(asked.frame_list.0), n, &Long(mfn.0))?;
    }
    Ok(None)
}

/// The parts of a grant table.
#[derive(Clone, Copy)]
enum Part {
    /// The frames of entries.
    Shared,
    /// The frames of status words, which only version 2 has.
    Status,
}

impl Part {
    fn asked(dom: &Domain, asked: &MemAcquireResource) -> Option<Self> {
        match (asked.type_.into(), asked.id) {
            (XENMEM_RESOURCE_GRANT_TABLE, XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED) => {
                Some(Self::Shared)
            }
            (XENMEM_RESOURCE_GRANT_TABLE, XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS) => {
                (dom.grants.version() == Version::V2).then_some(Self::Status)
            }
            _ => None,
        }
    }

    /// The number of frames, and its maximum.
    fn size(self, dom: &Domain) -> (u32, u32) {
        match self {
            Self::Shared => dom.grants.size(),
            Self::Status => dom.grants.status_size(),
        }
    }

    /// Returns frame number `n`, and grows the grant table up to it. [`errno::ERESTART`] if the growth has to be
    /// continued.
    fn frame(self, dom: &Domain, n: u32) -> Result<Mfn, Errno> {
        if n >= self.size(dom).0 {
            let entries = match self {
                Self::Shared => n.saturating_add(1),
                Self::Status => n
                    .saturating_mul(Version::frames_per_status())
                    .saturating_add(1),
            };
            match grant_table::grow(dom, entries) {
                Ok(Progress::Done) => {}
                Ok(Progress::Again) => return Err(errno::ERESTART),
                Err(_) => return Err(errno::ENOMEM),
            }
        }
        let mfn = |page: &HeldPage| page.page().mfn();
        let found = match self {
            Self::Shared => dom.grants.with_frame(n, mfn),
            Self::Status => dom.grants.with_status(n, mfn),
        };
        found.ok_or(errno::EINVAL)
    }
}
