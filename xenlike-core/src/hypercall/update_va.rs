//! update_va_mapping: sets the L1 entry that maps one address, and flushes afterwards.

use guest_pv_abi::Width;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::xen::{
    UVMF_ALL, UVMF_FLUSHTYPE_MASK, UVMF_INVLPG, UVMF_LOCAL, UVMF_NONE, UVMF_TLB_FLUSH,
};

use super::arguments::{UpdateVaMapping, UpdateVaMappingOther};
use super::flush::What;
use super::{Ctx, Outcome, owner};
use crate::kit::{DomId, Vaddr};
use crate::pagetype::{Keep, Progress, Pte, Refused, Update, machine};

/// `update_va_mapping(address, entry, flags)`: sets an entry that maps a frame of the caller.
pub fn call(ctx: &mut Ctx<'_>, args: &UpdateVaMapping) -> Outcome {
    let frames = ctx.dom.id();
    update(
        ctx,
        Request {
            va: args.va,
            entry: Pte(args.entry),
            flags: args.flags as u64,
            frames,
        },
    )
}

/// `update_va_mapping_otherdomain(address, entry, flags, domain)`: sets an entry that maps a frame of `domain`.
pub fn other_domain(ctx: &mut Ctx<'_>, args: &UpdateVaMappingOther) -> Outcome {
    match owner::of_frames(ctx, args.domid) {
        Ok(frames) => update(
            ctx,
            Request {
                va: args.va,
                entry: Pte(args.entry),
                flags: args.flags as u64,
                frames,
            },
        ),
        Err(errno) => errno.into(),
    }
}

struct Request {
    va: Vaddr,
    entry: Pte,
    flags: u64,
    /// The owner of the frame that the entry names.
    frames: DomId,
}

fn update(ctx: &mut Ctx<'_>, request: Request) -> Outcome {
    match &ctx.st.pv().kernel_root {
        Some(root) if root.width() == Width::Wide => update_in(Width::Wide, ctx, request),
        _ => update_narrow(ctx, request),
    }
}

#[inline(never)] // off the path of wide guests
fn update_narrow(ctx: &mut Ctx<'_>, request: Request) -> Outcome {
    update_in(Width::Narrow, ctx, request)
}

#[inline(always)] // the width is a constant for each caller
fn update_in(width: Width, ctx: &mut Ctx<'_>, request: Request) -> Outcome {
    if machine().finish(&mut ctx.st.work) == Progress::Again {
        return Outcome::Again;
    }
    match change(width, ctx, &request) {
        Ok(()) if request.flags == UVMF_NONE => Outcome::Done(0),
        Ok(()) => flush(ctx, &request).into(),
        Err(why) => refused(why),
    }
}

#[cold]
fn refused(why: Refused) -> Outcome {
    match why {
        // Validation of an L1 never stops halfway, so only leftover work can ask for a continuation.
        Refused::Again => Outcome::Again,
        Refused::Invalid => errno::EINVAL.into(),
        Refused::Busy => errno::EBUSY.into(),
        Refused::NotPermitted => errno::EPERM.into(),
    }
}

#[inline(always)] // the width is a constant for each caller
fn change(width: Width, ctx: &mut Ctx<'_>, request: &Request) -> Result<(), Refused> {
    let root = ctx.st.pv().kernel_root.as_ref().ok_or(Refused::Invalid)?;
    let place = machine().l1_of_root(root, request.va);
    let (table, index) = place.ok_or(Refused::Invalid)?;
    let update = Update {
        table,
        index,
        new: request.entry,
        keep: Keep::Nothing,
        page_owner: request.frames,
    };
    machine().update_l1_entry(width, ctx.dom.id(), &update, &mut ctx.st.work)
}

#[inline(always)] // on the path of every entry
fn flush(ctx: &Ctx<'_>, request: &Request) -> Result<(), Errno> {
    let what = match request.flags & UVMF_FLUSHTYPE_MASK {
        UVMF_NONE => return Ok(()),
        UVMF_TLB_FLUSH => What::All,
        UVMF_INVLPG => What::Page(request.va),
        _ => return Ok(()),
    };
    let target = request.flags & !UVMF_FLUSHTYPE_MASK;
    if target == UVMF_LOCAL {
        what.local();
        Ok(())
    } else if target == UVMF_ALL {
        what.everywhere(ctx.dom);
        Ok(())
    } else {
        what.where_set(ctx, Vaddr(target))
    }
}
