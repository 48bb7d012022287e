//! A domain's numbers for interrupts: lines of the I/O APICs, messages of PCI functions. The hardware
//! domain gets them for itself and for domains that it gives devices to.

use crate::kit::atomic::Ordering;
use alloc::sync::Arc;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::physdev as abi;

use super::super::Ctx;
use super::{interrupts, pci, to_errno};
use crate::domain::{Domain, Life};
use crate::irq::machine::Hardware;
use crate::irq::{Book, Function, IrqError, PIRQS};
use crate::kit::Vaddr;
use crate::kit::lock::LockGuard;
use crate::life::hardware_domain;

/// The index of a message whose vector the core shall choose.
const ANY_VECTOR: i32 = -1;

/// The number that the caller wants: any if negative.
fn wanted(pirq: i32) -> Result<Option<u32>, Errno> {
    match u32::try_from(pirq) {
        Ok(pirq) if pirq < PIRQS => Ok(Some(pirq)),
        Ok(_) => Err(errno::EINVAL),
        Err(_) => Ok(None),
    }
}

fn target(ctx: &Ctx<'_>, id: u16) -> Result<Arc<Domain>, Errno> {
    let dom = ctx.named(id).ok_or(errno::ESRCH)?;
    ctx.require_control()?;
    if dom.life() == Life::Alive {
        Ok(dom)
    } else {
        Err(errno::EINVAL)
    }
}

/// The book, to give `dom` a number. A domain that is ending gets none: under the book's lock this is
/// seen, or the number is found when what it has is taken off it.
fn book_for(dom: &Domain) -> Result<LockGuard<'static, Book<Hardware>>, Errno> {
    let book = interrupts()?;
    if dom.life() == Life::Alive {
        Ok(book)
    } else {
        Err(errno::EINVAL)
    }
}

/// PHYSDEVOP_map_pirq
pub fn map(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    let mut op = ctx.guest().read::<abi::PhysdevMapPirq>(arg)?;
    let dom = target(ctx, op.domid)?;
    let pirq = wanted(op.pirq)?;
    dom.has_interrupts.store(true, Ordering::Release);
    let given = match op.type_ as u32 {
        abi::MAP_PIRQ_TYPE_GSI => map_line(ctx, &dom, op.index, pirq)?,
        abi::MAP_PIRQ_TYPE_MSI | abi::MAP_PIRQ_TYPE_MSI_SEG => map_message(&dom, &op, pirq)?,
        abi::MAP_PIRQ_TYPE_MULTI_MSI => {
            let count = u8::try_from(op.entry_nr).map_err(|_| errno::EINVAL)?;
            // The device takes a power of two; the caller learns how many it asked for in vain.
            let function = function(&op)?;
            let given = book_for(&dom)?.map_msi(dom.id(), function, count, pirq);
            given.map_err(message_error)?
        }
        _ => return Err(errno::EINVAL),
    };
    op.pirq = given as i32;
    ctx.guest().write(arg, &op).inspect_err(|_| {
        if let Ok(mut book) = interrupts() {
            let _ = book.unmap(dom.id(), given);
        }
    })?;
    Ok(0)
}

fn function(op: &abi::PhysdevMapPirq) -> Result<Function, Errno> {
    // MSI_SEG and MULTI_MSI have the segment above the bus (physdev.h).
    let segment = if op.type_ as u32 == abi::MAP_PIRQ_TYPE_MSI {
        0
    } else {
        op.bus >> 16
    };
    pci::function(segment as u16, op.bus as u8, op.devfn as u8)
}

/// A line that the caller has the right to.
fn map_line(ctx: &Ctx<'_>, dom: &Domain, index: i32, pirq: Option<u32>) -> Result<u32, Errno> {
    let index = u32::try_from(index).map_err(|_| errno::EINVAL)?;
    // The caller names it by its own number, if it has one for it. The book is not held while settings
    // are looked at: a domain that gives its page for ends holds them the other way round.
    let gsi = interrupts()?.gsi_of(ctx.dom.id(), index).unwrap_or(index);
    let allowed = |dom: &Domain| dom.io_rights.lock().irqs.contains(gsi.into()..=gsi.into());
    if hardware_domain::keeps_line(gsi) && dom.id() == ctx.dom.id() {
        // The core's own has a number that nothing can be bound to.
        return interrupts()?
            .reserve_as(dom.id(), pirq.unwrap_or(gsi))
            .map_err(to_errno);
    }
    if !allowed(ctx.dom) {
        return Err(errno::EPERM);
    }
    if dom.id() != ctx.dom.id() && !allowed(dom) {
        return Err(errno::EPERM);
    }
    book_for(dom)?
        .map_line(dom.id(), gsi, pirq)
        .map_err(to_errno)
}

/// A function's one message, or an entry of its MSI-X table if the caller says where that is.
fn map_message(dom: &Domain, op: &abi::PhysdevMapPirq, pirq: Option<u32>) -> Result<u32, Errno> {
    // The index is for who has a vector already, which only the core has.
    if op.index != ANY_VECTOR {
        return Err(errno::EINVAL);
    }
    let function = function(op)?;
    let mut book = book_for(dom)?;
    let given = if op.table_base == 0 {
        book.map_msi(dom.id(), function, 1, pirq)
    } else {
        let index = u16::try_from(op.entry_nr).map_err(|_| errno::EINVAL)?;
        book.map_msix(dom.id(), function, index, pirq)
    };
    given.map_err(message_error)
}

/// As [`to_errno`]: but a function that has its messages already is in use.
fn message_error(error: IrqError) -> Errno {
    match error {
        IrqError::Exists => errno::EEXIST,
        IrqError::NoSpace => errno::ENOSPC,
        other => to_errno(other),
    }
}

/// PHYSDEVOP_unmap_pirq
pub fn unmap(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    let op = ctx.guest().read::<abi::PhysdevUnmapPirq>(arg)?;
    let dom = ctx.named(op.domid).ok_or(errno::ESRCH)?;
    ctx.require_control()?;
    let pirq = u32::try_from(op.pirq).map_err(|_| errno::EINVAL)?;
    interrupts()?.unmap(dom.id(), pirq).map_err(to_errno)?;
    Ok(0)
}

/// PHYSDEVOP_get_free_pirq
pub fn free_number(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    let mut op = ctx.guest().read::<abi::PhysdevGetFreePirq>(arg)?;
    op.pirq = interrupts()?.reserve(ctx.dom.id()).map_err(to_errno)?;
    ctx.guest().write(arg, &op)?;
    Ok(0)
}
