//! mmuext_op: pins page tables, switches address spaces, flushes TLBs, sets the LDT, clears and copies pages.

use guest_pv_abi::xen::{
    MMUEXT_CLEAR_PAGE, MMUEXT_COPY_PAGE, MMUEXT_FLUSH_CACHE, MMUEXT_FLUSH_CACHE_GLOBAL,
    MMUEXT_INVLPG_ALL, MMUEXT_INVLPG_LOCAL, MMUEXT_INVLPG_MULTI, MMUEXT_MARK_SUPER,
    MMUEXT_NEW_BASEPTR, MMUEXT_NEW_USER_BASEPTR, MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L4_TABLE,
    MMUEXT_SET_LDT, MMUEXT_TLB_FLUSH_ALL, MMUEXT_TLB_FLUSH_LOCAL, MMUEXT_TLB_FLUSH_MULTI,
    MMUEXT_UNMARK_SUPER, MMUEXT_UNPIN_TABLE, MmuextOp,
};
use guest_pv_abi::{Width, errno};

use super::arguments::Requests;
use super::batch::{Batch, Stop};
use super::flush::What;
use super::{Ctx, Outcome, owner};
use crate::arch::cr3;
use crate::kit::{DomId, Mfn, Vaddr};
use crate::mm::guest::{NARROW, WIDE};
use crate::mm::{SharedPage, layout};
use crate::pagetype::{GuestRoot, machine};
use crate::pv::state::ldt::{self, GuestLdt, MAX_LDT_ENTRIES};
use crate::pv::state::mode::run_root;

/// `mmuext_op(requests, count, done, foreign)`: `foreign` names the owner of the frames.
pub fn call(ctx: &mut Ctx<'_>, args: &mut Requests) -> Outcome {
    requests::<WIDE>(ctx, args)
}

/// The same for a narrow guest.
pub fn call_narrow(ctx: &mut Ctx<'_>, args: &mut Requests) -> Outcome {
    requests::<NARROW>(ctx, args)
}

#[inline(always)] // one instance for each width
fn requests<const FORM: bool>(ctx: &mut Ctx<'_>, args: &mut Requests) -> Outcome {
    let batch = match Batch::begin(ctx, args) {
        Ok(batch) => batch,
        Err(outcome) => return outcome,
    };
    let frames = match owner::of_frames(ctx, batch.foreign as u16) {
        Ok(DomId::IO | DomId::XEN) => return errno::EINVAL.into(),
        Ok(frames) => frames,
        Err(errno) => return errno.into(),
    };
    batch.run::<MmuextOp, FORM>(ctx, args, 1, |ctx, op| one(ctx, frames, &op))
}

#[inline(always)] // one instance for each width
fn one(ctx: &mut Ctx<'_>, frames: DomId, op: &MmuextOp) -> Result<(), Stop> {
    // Page tables have machine frames in them, so a PV guest names frames by those here.
    let mfn = Mfn(op.arg1);
    match op.cmd {
        MMUEXT_PIN_L1_TABLE..=MMUEXT_PIN_L4_TABLE => {
            let level = op.cmd.wrapping_sub(MMUEXT_PIN_L1_TABLE).wrapping_add(1);
            Ok(machine().pin(mfn, level, frames, &mut ctx.st.work)?)
        }
        MMUEXT_UNPIN_TABLE => Ok(machine().unpin(mfn, frames, &mut ctx.st.work)?),
        MMUEXT_CLEAR_PAGE => clear_page(frames, mfn),
        MMUEXT_COPY_PAGE => copy_page(frames, mfn, Mfn(op.arg2)),
        MMUEXT_MARK_SUPER | MMUEXT_UNMARK_SUPER => Err(errno::EOPNOTSUPP.into()),
        _ if !is_known(op.cmd) => Err(errno::ENOSYS.into()),
        // The remaining commands act on the caller itself.
        _ if frames != ctx.dom.id() => Err(errno::EPERM.into()),
        _ => own(ctx, op),
    }
}

fn is_known(cmd: u32) -> bool {
    cmd <= MMUEXT_UNMARK_SUPER && cmd != 14
}

#[inline(always)] // one instance for each width
fn own(ctx: &mut Ctx<'_>, op: &MmuextOp) -> Result<(), Stop> {
    let page = What::Page(Vaddr(op.arg1));
    match op.cmd {
        MMUEXT_NEW_BASEPTR => new_kernel_root(ctx, Mfn(op.arg1))?,
        MMUEXT_NEW_USER_BASEPTR => new_user_root(ctx, Mfn(op.arg1))?,
        MMUEXT_TLB_FLUSH_LOCAL => What::All.local(),
        MMUEXT_INVLPG_LOCAL => page.local(),
        MMUEXT_TLB_FLUSH_MULTI => {
            What::All
                .where_set(ctx, Vaddr(op.arg2))
                .map_err(|_| errno::EINVAL)?;
        }
        MMUEXT_INVLPG_MULTI => page
            .where_set(ctx, Vaddr(op.arg2))
            .map_err(|_| errno::EINVAL)?,
        MMUEXT_TLB_FLUSH_ALL => What::All.everywhere(ctx.dom),
        MMUEXT_INVLPG_ALL => page.everywhere(ctx.dom),
        MMUEXT_FLUSH_CACHE | MMUEXT_FLUSH_CACHE_GLOBAL => flush_cache(ctx)?,
        MMUEXT_SET_LDT => set_ldt(ctx, op.arg1, op.arg2 as u32)?,
        _ => return Err(errno::ENOSYS.into()),
    }
    Ok(())
}

#[inline(never)] // cold: keeps its stack frame off the flush paths
fn new_kernel_root(ctx: &mut Ctx<'_>, new: Mfn) -> Result<(), Stop> {
    if ctx.st.pv().kernel_l4() == Some(new) {
        What::All.local();
        return Ok(());
    }
    // The new root's references are taken before anything changes, so a refusal leaves the old root in place.
    let root = machine().get_root(new, ctx.dom.id(), &mut ctx.st.work)?;
    // The LDT is given by a virtual address, which the new tables may map to other frames. Without an LDT, no page of one
    // is mapped: only this CPU could map one, and `set_ldt` has emptied the window.
    if ctx.st.pv().ldt.entries != 0 {
        let _ = ctx.dom.pages.drop_ldt_pages_of(ctx.vcpu.id);
    }
    // A hypercall comes from guest kernel mode, so the CPU has to run on the new kernel tables. It must do so before
    // the old root's reference is put.
    let st = ctx.st.pv_mut();
    let Ok(run) = run_root(Some(&root), st.monitor.as_ref()) else {
        let _ = machine().put_root(root, &mut ctx.st.work);
        return Err(errno::EINVAL.into());
    };
    cr3::load(run);
    let old = st.kernel_root.replace(root);
    if let Some(old) = old {
        let _ = machine().put_root(old, &mut ctx.st.work);
    }
    Ok(())
}

#[inline(never)] // cold, see above
fn new_user_root(ctx: &mut Ctx<'_>, new: Mfn) -> Result<(), Stop> {
    if ctx.dom.pages.width() == Width::Narrow {
        return Err(errno::EINVAL.into());
    }
    let new = (new.0 != 0).then_some(new);
    if ctx.st.pv().user_root.as_ref().map(GuestRoot::mfn) == new {
        return Ok(());
    }
    let root = match new {
        Some(l4) => Some(machine().get_root(l4, ctx.dom.id(), &mut ctx.st.work)?),
        None => None,
    };
    let old = core::mem::replace(&mut ctx.st.pv_mut().user_root, root);
    if let Some(old) = old {
        let _ = machine().put_root(old, &mut ctx.st.work);
    }
    Ok(())
}

fn flush_cache(ctx: &Ctx<'_>) -> Result<(), Stop> {
    if !ctx.dom.pages.has_device_rights() {
        return Err(errno::EACCES.into());
    }
    // Every mapping of RAM is write-back, and x86 keeps such memory coherent with devices, so there is nothing to
    // write back (ADR 7).
    Ok(())
}

#[inline(never)] // cold
fn set_ldt(ctx: &mut Ctx<'_>, base: u64, entries: u32) -> Result<(), Stop> {
    let base = if entries == 0 { 0 } else { base };
    let bytes = u64::from(entries).wrapping_mul(8);
    let fits =
        base & 0xfff == 0 && entries <= MAX_LDT_ENTRIES && layout::guest_range(Vaddr(base), bytes);
    if !fits {
        return Err(errno::EINVAL.into());
    }
    if ctx.dom.pages.drop_ldt_pages_of(ctx.vcpu.id) {
        What::All.local();
    }
    if entries != 0 {
        ldt::note_cpu(&ctx.dom.pages, ctx.vcpu.id);
    }
    ctx.st.pv_mut().ldt = GuestLdt { base, entries };
    ldt::load_register(ctx.vcpu.id, ctx.st.pv().width, entries);
    Ok(())
}

#[inline(never)] // cold
fn clear_page(frames: DomId, mfn: Mfn) -> Result<(), Stop> {
    let held = machine().get_writable(mfn, frames).ok_or(errno::EINVAL)?;
    SharedPage::new(held.mfn()).ok_or(errno::EINVAL)?.zero();
    Ok(())
}

#[inline(never)] // cold
fn copy_page(frames: DomId, to: Mfn, from: Mfn) -> Result<(), Stop> {
    let source = machine().get_page(from, frames).ok_or(errno::EINVAL)?;
    let target = machine().get_writable(to, frames).ok_or(errno::EINVAL)?;
    let source = SharedPage::new(source.mfn()).ok_or(errno::EINVAL)?;
    SharedPage::new(target.mfn())
        .ok_or(errno::EINVAL)?
        .copy_from(&source);
    Ok(())
}
