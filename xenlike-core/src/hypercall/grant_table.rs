//! grant_table_op: granting single frames to other domains, and using frames that others grant.
//!
//! Each call takes an array. Each element gets its own status (`GNTST_*`); the call's errno reports errors that
//! concern the whole call. The call can be preempted between elements; its progress is the rest of the array.

mod copies;
mod mappings;
mod transfers;

use alloc::sync::Arc;

use guest_pv_abi::Form;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::grant_table as abi;

use super::arguments::GrantTableOp as List;
use super::{Ctx, Outcome};
use crate::domain::Domain;
use crate::domain::grant_machine::Mapper;
use crate::grant::{self, GrantError, Refused, Version};
use crate::kit::DomId;
use crate::kit::Vaddr;
use crate::mm::alloc as frames;
use crate::mm::guest::{Guest, Long};
use crate::pagetype::{Progress, machine};

/// `grant_table_op(cmd, array, count)`: applies the command to each element of the array.
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
    /// The element's address if there is exactly one element, else EINVAL.
    fn single(&self) -> Result<Vaddr, Errno> {
        if self.count == 1 {
            Ok(self.array)
        } else {
            Err(errno::EINVAL)
        }
    }

    /// The address of element `n` of an array of `T`.
    fn element<T: Form>(&self, guest: Guest<'_>, n: u32) -> Vaddr {
        self.array
            .wrapping_add(u64::from(n).wrapping_mul(guest.size::<T>()))
    }

    /// Continues the call later with the elements after the first `done`.
    fn after<T: Form>(&mut self, guest: Guest<'_>, done: u32) -> Outcome {
        self.array = self.element::<T>(guest, done);
        self.count = self.count.saturating_sub(done);
        Outcome::Again
    }

    /// Reads each element, applies `op` to it and writes it back.
    fn each<T: Form>(
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

    /// Applies `op` to the address of each element. ERESTART from `op` continues the call at that element.
    fn each_at<T: Form>(
        &mut self,
        ctx: &mut Ctx<'_>,
        op: impl Fn(&mut Ctx<'_>, Vaddr) -> Result<(), Errno>,
    ) -> Outcome {
        let mut at = self.array;
        for n in 0..self.count {
            if n != 0 && ctx.preempted() {
                return self.after::<T>(ctx.guest(), n);
            }
            match op(ctx, at) {
                Ok(()) => {}
                Err(errno::ERESTART) => return self.after::<T>(ctx.guest(), n),
                Err(error) => return error.into(),
            }
            at = at.wrapping_add(ctx.guest().size::<T>());
        }
        Outcome::Done(0)
    }
}

/// A mapper into the calling vCPU's page tables.
fn mapper<'a>(ctx: &'a mut Ctx<'_>) -> Mapper<'a> {
    Mapper {
        owner: ctx.dom.id(),
        past: ctx.dom.pages.past(),
        root: ctx.st.kind.pv().kernel_root.as_ref(),
        work: &mut ctx.st.work,
    }
}

/// Looks up the domain whose table the caller asks about: the caller itself, or any domain if the caller has control
/// rights.
fn whose(ctx: &Ctx<'_>, id: u16) -> Result<Arc<Domain>, GrantError> {
    let dom = ctx.named(id).ok_or(GrantError::BadDomain)?;
    if dom.id() == ctx.dom.id() || ctx.dom.is_control() {
        Ok(dom)
    } else {
        Err(GrantError::PermissionDenied)
    }
}

/// The `GNTST_*` status for an element's result.
fn status(result: Result<(), GrantError>) -> i16 {
    result.map_or_else(GrantError::status, |()| abi::GNTST_OKAY)
}

/// Maximum number of frames that a table grows by between two checks for preemption, because each is allocated and
/// zeroed.
const GROW_STEP: u32 = 32;

/// Grows `dom`'s table to `frames`, or by one step towards that.
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

/// Grows the table and writes the numbers of its frames. [`errno::ERESTART`] if it has to grow further.
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
                .write_at(Vaddr(op.frame_list.0), n.into(), &Long(mfn))?;
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

/// Changes the version of the caller's table, and reports the version in force afterwards.
#[inline(never)] // cold: keeps its register use out of the other commands
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

/// Writes the numbers of the frames that hold the status words.
#[inline(never)] // see above
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

/// Checks the request and does nothing, because x86 caches are coherent with devices.
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

/// Looks up the granting domain. As in Xen, the caller can't name itself by DOMID_SELF.
fn granter(ctx: &Ctx<'_>, id: u16) -> Result<Arc<Domain>, GrantError> {
    if id == DomId::SELF.0 {
        return Err(GrantError::BadDomain);
    }
    ctx.named(id).ok_or(GrantError::BadDomain)
}
