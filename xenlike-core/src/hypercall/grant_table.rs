//! grant_table_op: lending single frames to other domains, and using what others lend.
//!
//! Each call takes an array. Each element gets a status of its own (`GNTST_*`); the call's errno is
//! for what concerns all of them. Between elements the call can stop; the rest of the array then is
//! the progress.

mod copies;
mod mappings;
mod transfers;

use alloc::sync::Arc;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::grant_table as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::arguments::GrantTableOp as List;
use super::{Ctx, Outcome};
use crate::domain::Domain;
use crate::domain::grant_machine::Mapper;
use crate::grant::{self, GrantError, Refused, Version};
use crate::kit::DomId;
use crate::kit::Vaddr;
use crate::mm::alloc as frames;
use crate::pagetype::{Progress, machine};

/// `grant_table_op(cmd, array, count)`.
pub fn call(ctx: &mut Ctx<'_>, list: &mut List) -> Outcome {
    if list.count > i32::MAX as u32 {
        return errno::EINVAL.into();
    }
    if machine().finish(&mut ctx.st.work) == Progress::Again {
        return Outcome::Again;
    }
    match list.cmd {
        abi::GNTTABOP_MAP_GRANT_REF => list.each_at::<abi::GnttabMapGrantRef>(ctx, mappings::map),
        abi::GNTTABOP_UNMAP_GRANT_REF => mappings::unmap::<mappings::Plain>(ctx, list),
        abi::GNTTABOP_UNMAP_AND_REPLACE => mappings::unmap::<mappings::Replacing>(ctx, list),
        abi::GNTTABOP_TRANSFER if !grant::offer().transfer => errno::EOPNOTSUPP.into(),
        abi::GNTTABOP_TRANSFER => list.each(ctx, transfers::transfer),
        abi::GNTTABOP_COPY => copies::copy(ctx, list),
        abi::GNTTABOP_SWAP_GRANT_REF => list.each(ctx, swap),
        abi::GNTTABOP_SETUP_TABLE => list.single().and_then(|at| setup_table(ctx, at)).into(),
        abi::GNTTABOP_QUERY_SIZE => list.single().and_then(|at| query_size(ctx, at)).into(),
        abi::GNTTABOP_SET_VERSION => list.single().and_then(|at| set_version(ctx, at)).into(),
        abi::GNTTABOP_GET_STATUS_FRAMES => list
            .single()
            .and_then(|at| get_status_frames(ctx, at))
            .into(),
        abi::GNTTABOP_GET_VERSION => get_version(ctx, list.array).into(),
        abi::GNTTABOP_CACHE_FLUSH => list.each(ctx, cache_flush),
        _ => errno::ENOSYS.into(),
    }
}

impl List {
    /// The address, if there is exactly one element.
    fn single(&self) -> Result<Vaddr, Errno> {
        if self.count == 1 {
            Ok(self.array)
        } else {
            Err(errno::EINVAL)
        }
    }

    /// Where element `n` of `T` is.
    fn element<T>(&self, n: u32) -> Vaddr {
        self.array
            .wrapping_add(u64::from(n).wrapping_mul(size_of::<T>() as u64))
    }

    /// The call goes on later, with what is left after `done` elements of `T`.
    fn after<T>(&mut self, done: u32) -> Outcome {
        self.array = self.element::<T>(done);
        self.count = self.count.saturating_sub(done);
        Outcome::Again
    }

    /// Does `op` to each element, which it changes, and writes it back.
    fn each<T: FromBytes + IntoBytes + Immutable>(
        &mut self,
        ctx: &mut Ctx<'_>,
        op: impl Fn(&mut Ctx<'_>, &mut T) -> Result<(), Errno>,
    ) -> Outcome {
        self.each_at::<T>(ctx, |ctx, at| {
            let mut element = ctx.guest().read::<T>(at)?;
            op(ctx, &mut element)?;
            Ok(ctx.guest().write(at, &element)?)
        })
    }

    /// Does `op` to the address of each element.
    fn each_at<T>(
        &mut self,
        ctx: &mut Ctx<'_>,
        op: impl Fn(&mut Ctx<'_>, Vaddr) -> Result<(), Errno>,
    ) -> Outcome {
        let mut at = self.array;
        for n in 0..self.count {
            if n != 0 && ctx.preempted() {
                return self.after::<T>(n);
            }
            match op(ctx, at) {
                Ok(()) => {}
                Err(errno::ERESTART) => return self.after::<T>(n),
                Err(error) => return error.into(),
            }
            at = at.wrapping_add(size_of::<T>() as u64);
        }
        Outcome::Done(0)
    }
}

/// The calling vCPU's page tables, and all frames.
fn mapper<'a>(ctx: &'a mut Ctx<'_>) -> Mapper<'a> {
    Mapper {
        owner: ctx.dom.id(),
        past: ctx.dom.pages.past(),
        root: ctx.st.kind.pv().kernel_root.as_ref(),
        work: &mut ctx.st.work,
    }
}

/// The domain that the caller names as one whose table it asks about: itself, or any for a control
/// domain.
fn whose(ctx: &Ctx<'_>, id: u16) -> Result<Arc<Domain>, GrantError> {
    let dom = ctx.named(id).ok_or(GrantError::BadDomain)?;
    if dom.id() == ctx.dom.id() || ctx.dom.is_control() {
        Ok(dom)
    } else {
        Err(GrantError::PermissionDenied)
    }
}

/// The status for what came of an element.
fn status(result: Result<(), GrantError>) -> i16 {
    result.map_or_else(GrantError::status, |()| abi::GNTST_OKAY)
}

/// Frames that a table grows by in one go: each is made and zeroed.
const GROW_STEP: u32 = 32;

/// Grows `dom`'s table to `frames`, or some way there.
pub fn grow(dom: &Domain, frames: u32) -> Result<Progress, GrantError> {
    let (now, most) = dom.grants.size();
    let step = now.saturating_add(GROW_STEP);
    let (to, progress) = if frames > step && frames <= most {
        (step, Progress::Again)
    } else {
        (frames, Progress::Done)
    };
    dom.grow_grants(to)?;
    Ok(progress)
}

/// Grows the table, and tells the frames. [`errno::ERESTART`] if it is to grow further.
fn setup_table(ctx: &Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    let mut op = ctx.guest().read::<abi::GnttabSetupTable>(at)?;
    let grown = whose(ctx, op.dom).and_then(|dom| {
        let progress = grow(&dom, op.nr_frames)?;
        Ok((dom, progress))
    });
    if let Ok((_, Progress::Again)) = grown {
        return Err(errno::ERESTART);
    }
    op.status = match &grown {
        Ok(_) => abi::GNTST_OKAY,
        Err(error) => error.status(),
    };
    if let Ok((dom, _)) = grown {
        for n in 0..op.nr_frames {
            let mfn = dom.grants.with_frame(n, |page| page.page().mfn());
            let mfn = mfn.ok_or(errno::EINVAL)?.0;
            ctx.guest()
                .write_at(Vaddr(op.frame_list.0), n.into(), &mfn)?;
        }
    }
    Ok(ctx.guest().write(at, &op)?)
}

fn query_size(ctx: &Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    let mut op = ctx.guest().read::<abi::GnttabQuerySize>(at)?;
    let dom = whose(ctx, op.dom);
    if let Ok(dom) = &dom {
        (op.nr_frames, op.max_nr_frames) = dom.grants.size();
    }
    op.status = status(dom.map(|_| ()));
    Ok(ctx.guest().write(at, &op)?)
}

/// Gives the caller's table another version, and tells which it has.
#[inline(never)] // rare: the calls around it keep their registers
fn set_version(ctx: &Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    let mut op = ctx.guest().read::<abi::GnttabSetVersion>(at)?;
    let wanted = Version::of_number(op.version).ok_or(errno::EINVAL);
    let result = wanted.and_then(|version| {
        let set = ctx.dom.set_grant_version(version);
        set.map_err(|refused| match refused {
            Refused::Unsupported => errno::ENOSYS,
            Refused::Busy => errno::EBUSY,
            Refused::NoMemory => errno::ENOMEM,
            Refused::BadEntry => errno::EINVAL,
        })
    });
    op.version = ctx.dom.grants.version().number();
    ctx.guest().write(at, &op)?;
    result
}

fn get_version(ctx: &Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    let mut op = ctx.guest().read::<abi::GnttabGetVersion>(at)?;
    op.version = ctx.target(op.dom)?.grants.version().number();
    Ok(ctx.guest().write(at, &op)?)
}

/// Tells the frames of the status words.
#[inline(never)] // as above
fn get_status_frames(ctx: &Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    let mut op = ctx.guest().read::<abi::GnttabGetStatusFrames>(at)?;
    let told = whose(ctx, op.dom).and_then(|dom| tell_status_frames(ctx, &dom, &op));
    op.status = status(told);
    Ok(ctx.guest().write(at, &op)?)
}

fn tell_status_frames(
    ctx: &Ctx<'_>,
    dom: &Domain,
    op: &abi::GnttabGetStatusFrames,
) -> Result<(), GrantError> {
    if op.nr_frames > dom.grants.status_size().0 {
        return Err(GrantError::General);
    }
    for n in 0..op.nr_frames {
        let mfn = dom.grants.with_status(n, |page| page.page().mfn());
        let mfn = mfn.ok_or(GrantError::General)?.0;
        ctx.guest()
            .write_at(Vaddr(op.frame_list.0), n.into(), &mfn)
            .map_err(|_| GrantError::BadVirtAddr)?;
    }
    Ok(())
}

fn swap(ctx: &mut Ctx<'_>, op: &mut abi::GnttabSwapGrantRef) -> Result<(), Errno> {
    op.status = status(ctx.dom.grants.swap(op.ref_a, op.ref_b));
    Ok(())
}

/// Caches of a PC are coherent: what devices need flushed is nothing. Checks the request all the same.
fn cache_flush(ctx: &mut Ctx<'_>, op: &mut abi::GnttabCacheFlush) -> Result<(), Errno> {
    let end = u32::from(op.offset).saturating_add(op.length.into());
    let known = abi::GNTTAB_CACHE_CLEAN | abi::GNTTAB_CACHE_INVAL;
    if op.offset >= 4096 || end > 4096 || op.op & !(known | abi::GNTTAB_CACHE_SOURCE_GREF) != 0 {
        return Err(errno::EINVAL);
    }
    if op.length == 0 || op.op == 0 {
        return Ok(());
    }
    if op.op & !known != 0 || op.op == abi::GNTTAB_CACHE_INVAL {
        return Err(errno::EOPNOTSUPP);
    }
    let mfn = crate::kit::Maddr(op.a).mfn();
    if mfn >= frames::end_of_ram() {
        return Err(errno::EINVAL);
    }
    machine()
        .get_page(mfn, ctx.dom.id())
        .map(|_| ())
        .ok_or(errno::EPERM)
}

/// The owner of grants that the caller names: never itself by DOMID_SELF, as in Xen.
fn granter(ctx: &Ctx<'_>, id: u16) -> Result<Arc<Domain>, GrantError> {
    if id == DomId::SELF.0 {
        return Err(GrantError::BadDomain);
    }
    ctx.named(id).ok_or(GrantError::BadDomain)
}
