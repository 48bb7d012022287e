//! mmu_update: changes entries of page tables and of the machine-to-physical table.

use guest_pv_abi::errno;
use guest_pv_abi::xen::{
    MMU_MACHPHYS_UPDATE, MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_NO_TRANSLATE,
    MMU_PT_UPDATE_PRESERVE_AD, MmuUpdate,
};

use super::arguments::Requests;
use super::batch::{Batch, Stop, Stride};
use super::{Ctx, Outcome, owner};
use crate::kit::{DomId, Maddr, Pfn};
use crate::mm::guest::WIDE;
use crate::mm::m2p;
use crate::pagetype::{HeldTable, Keep, Pte, Update, machine};

/// Most entries take little time, except the rare one that names a table that is not validated yet.
const STRIDE: Stride = 8;

/// The owner of the tables to change, and the owner of the frames that the entries name.
struct Owners {
    tables: DomId,
    frames: DomId,
}

/// `mmu_update(requests, count, done, foreign)`. The low half of `foreign` names the owner of the frames. Its high
/// half names the owner of the tables, plus one; 0 means the caller.
pub fn call(ctx: &mut Ctx<'_>, args: &mut Requests) -> Outcome {
    let batch = match Batch::begin(ctx, args) {
        Ok(batch) => batch,
        Err(outcome) => return outcome,
    };
    let owners = match owners(ctx, batch.foreign) {
        Ok(owners) => owners,
        Err(errno) => return errno.into(),
    };
    let mut held = None;
    let outcome = batch.run::<MmuUpdate, WIDE>(ctx, args, STRIDE, |ctx, request| {
        one(ctx, &owners, &mut held, request)
    });
    if let Some(table) = held {
        machine().put_held(table, &mut ctx.st.work);
    }
    outcome
}

fn owners(ctx: &Ctx<'_>, foreign: u32) -> Result<Owners, errno::Errno> {
    let tables = match (foreign >> 16).checked_sub(1) {
        None => ctx.dom.id(),
        Some(id) => ctx.target(id as u16)?.id(),
    };
    let frames = owner::of_frames(ctx, foreign as u16)?;
    Ok(Owners { tables, frames })
}

/// The table of the previous request, kept because consecutive requests mostly change the same table.
type Held = Option<HeldTable<'static>>;

#[inline]
fn one(
    ctx: &mut Ctx<'_>,
    owners: &Owners,
    held: &mut Held,
    request: MmuUpdate,
) -> Result<(), Stop> {
    let (at, command) = (Maddr(request.ptr & !7), request.ptr & 7);
    if command == MMU_MACHPHYS_UPDATE {
        return machphys(ctx, owners, at, request.val);
    }
    let keep = match command {
        MMU_NORMAL_PT_UPDATE | MMU_PT_UPDATE_NO_TRANSLATE => Keep::Nothing,
        MMU_PT_UPDATE_PRESERVE_AD => Keep::AccessedDirty,
        _ => return Err(errno::ENOSYS.into()),
    };
    entry(ctx, owners, held, (at, request.val, keep))
}

#[inline]
fn entry(
    ctx: &mut Ctx<'_>,
    owners: &Owners,
    held: &mut Held,
    (at, value, keep): (Maddr, u64, Keep),
) -> Result<(), Stop> {
    let update = Update {
        table: at.mfn(),
        index: at.offset() / 8,
        new: Pte(value),
        keep,
        page_owner: owners.frames,
    };
    let work = &mut ctx.st.work;
    if !held
        .as_ref()
        .is_some_and(|it| it.is(update.table, owners.tables))
    {
        if let Some(before) = held.take() {
            machine().put_held(before, work);
        }
        *held = machine().hold(update.table, owners.tables);
    }
    let done = match held {
        Some(table) => machine().update_held(table, &update, work),
        None => machine().write_plainly(owners.tables, &update),
    };
    done.map_err(Stop::from)
}

#[inline(never)]
fn machphys(ctx: &Ctx<'_>, owners: &Owners, at: Maddr, pfn: u64) -> Result<(), Stop> {
    if owners.tables != ctx.dom.id() {
        return Err(errno::EPERM.into());
    }
    let page = machine()
        .get_page(at.mfn(), owners.frames)
        .ok_or(errno::EINVAL)?;
    m2p::set(page.mfn(), Pfn(pfn));
    Ok(())
}
