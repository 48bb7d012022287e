//! The end of an interrupt (EOI), and how a domain learns which interrupts need one.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::physdev as abi;

use super::super::Ctx;
use super::to_errno;
use crate::domain::page::HeldPage;
use crate::domain::{notify, pirq};
use crate::irq::hold::Sharing;
use crate::irq::{Book, PIRQS};
use crate::kit::lock::LockGuard;
use crate::kit::{Gfn, Vaddr};

/// The two forms of PHYSDEVOP_pirq_eoi_gmfn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An EOI also unmasks the interrupt's port.
    First,
    /// An EOI leaves the port's mask unchanged.
    Second,
}

/// PHYSDEVOP_eoi: ends an interrupt.
pub fn end(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    let irq = ctx.guest().read::<abi::PhysdevEoi>(arg)?.irq;
    let unmasks = ctx.dom.eoi.lock().end_unmasks;
    if unmasks && let Some(port) = ctx.dom.events.pirq_port(irq) {
        // Another vCPU may have closed the port meanwhile; then there is nothing to unmask.
        if let Ok(notice) = ctx.dom.events.unmask(port) {
            notify::act_in(ctx.dom, notice);
        }
    }
    pirq::end(ctx.dom, irq).map_err(to_errno)?;
    Ok(0)
}

/// PHYSDEVOP_irq_status_query: returns an interrupt's flags. As in Xen, every interrupt is said to need an EOI; a
/// domain that reads the shared page knows better.
pub fn status(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    let mut query = ctx.guest().read::<abi::PhysdevIrqStatusQuery>(arg)?;
    if query.irq >= PIRQS {
        return Err(errno::EINVAL);
    }
    query.flags = abi::XENIRQSTAT_NEEDS_EOI;
    let duties = |mut book: LockGuard<'_, Book<_>>| book.duties(ctx.dom.id(), query.irq).ok();
    if let Some((_, Sharing::Shared)) = pirq::book_of(ctx.dom).and_then(duties) {
        query.flags |= abi::XENIRQSTAT_SHARED;
    }
    ctx.guest().write(arg, &query)?;
    Ok(0)
}

/// PHYSDEVOP_pirq_eoi_gmfn: registers a page of the guest where the core marks the interrupts that need an EOI. EBUSY
/// if the domain has one already.
pub fn page(ctx: &Ctx<'_>, arg: Vaddr, form: Form) -> Result<i64, Errno> {
    let frame = Gfn(ctx.guest().read::<abi::PhysdevPirqEoiGmfn>(arg)?.gmfn);
    let page = HeldPage::of_guest(ctx.dom, frame).ok_or(errno::EINVAL)?;
    let mut eoi = ctx.dom.eoi.lock();
    if eoi.page.is_some() {
        return Err(errno::EBUSY);
    }
    page.page().zero();
    eoi.page = Some(page);
    eoi.end_unmasks = form == Form::First;
    pirq::mark_all(ctx.dom, &eoi);
    Ok(0)
}
