//! A domain's numbers (PIRQs) for interrupts: lines of the I/O APICs and messages of PCI functions. The hardware
//! domain maps them for itself and for domains that it assigns devices to.

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

/// The index that lets the core choose a message's vector.
const ANY_VECTOR: i32 = -1;

/// The number that the caller requests; `None` (any) if it is negative.
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

/// Locks the book in order to give `dom` a number. A dying domain gets none: either its state is seen here under the
/// book's lock, or the number is found when the domain's interrupts are taken off it.
fn book_for(dom: &Domain) -> Result<LockGuard<'static, Book<Hardware>>, Errno> {
    let book = interrupts()?;
    if dom.life() == Life::Alive {
        Ok(book)
    } else {
        Err(errno::EINVAL)
    }
}

/// PHYSDEVOP_map_pirq: maps a line or messages to a number of the target domain.
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
            // Devices take only powers of two, up to their own maximum. Any other number is refused.
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
    // MSI_SEG and MULTI_MSI encode the segment above the bus (physdev.h).
    let segment = if op.type_ as u32 == abi::MAP_PIRQ_TYPE_MSI {
        0
    } else {
        op.bus >> 16
    };
    pci::function(segment as u16, op.bus as u8, op.devfn as u8)
}

/// Maps a line that the caller has the right to.
fn map_line(ctx: &Ctx<'_>, dom: &Domain, index: i32, pirq: Option<u32>) -> Result<u32, Errno> {
    let index = u32::try_from(index).map_err(|_| errno::EINVAL)?;
    // The caller may name the line by its own number for it. The book is not locked while the rights are checked: a
    // domain that registers its EOI page takes the two locks in the opposite order.
    let gsi = interrupts()?.gsi_of(ctx.dom.id(), index).unwrap_or(index);
    let allowed = |dom: &Domain| dom.io_rights.lock().irqs.contains(gsi.into()..=gsi.into());
    if hardware_domain::keeps_line(gsi) && dom.id() == ctx.dom.id() {
        // A line that the core uses gets a number that no port can be bound to.
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

/// Maps a function's single message, or an entry of its MSI-X table if the caller gives the table's address.
fn map_message(dom: &Domain, op: &abi::PhysdevMapPirq, pirq: Option<u32>) -> Result<u32, Errno> {
    // Any other index names an allocated vector, which only the core has.
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

/// As [`to_errno`], but EEXIST for a function that already has its messages, and ENOSPC if there is no space.
fn message_error(error: IrqError) -> Errno {
    match error {
        IrqError::Exists => errno::EEXIST,
        IrqError::NoSpace => errno::ENOSPC,
        other => to_errno(other),
    }
}

/// PHYSDEVOP_unmap_pirq: releases a domain's number.
pub fn unmap(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    let op = ctx.guest().read::<abi::PhysdevUnmapPirq>(arg)?;
    let dom = ctx.named(op.domid).ok_or(errno::ESRCH)?;
    ctx.require_control()?;
    let pirq = u32::try_from(op.pirq).map_err(|_| errno::EINVAL)?;
    interrupts()?.unmap(dom.id(), pirq).map_err(to_errno)?;
    Ok(0)
}

/// PHYSDEVOP_get_free_pirq: reserves a free number for the caller.
pub fn free_number(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    let mut op = ctx.guest().read::<abi::PhysdevGetFreePirq>(arg)?;
    op.pirq = interrupts()?.reserve(ctx.dom.id()).map_err(to_errno)?;
    ctx.guest().write(arg, &op)?;
    Ok(0)
}
