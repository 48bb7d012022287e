//! physdev_op: I/O privilege of every domain, and what a domain may ask about physical interrupts.
//! Routes of interrupts and PCI devices are the hardware domain's.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::physdev as abi;

use super::{Args, Ctx, get, put};
use crate::domain::page::HeldPage;
use crate::kit::{Mfn, Vaddr};
use crate::mm::layout;

/// The highest I/O privilege level.
const MOST_IOPL: u32 = 3;
/// I/O ports there are.
const PORTS: u32 = 0x1_0000;

/// `physdev_op(cmd, arg)`.
pub fn call(ctx: &mut Ctx<'_>, args: Args) -> Result<i64, Errno> {
    let [cmd, arg, ..] = args.0;
    match cmd as u32 {
        abi::PHYSDEVOP_SET_IOPL => set_iopl(ctx, arg),
        abi::PHYSDEVOP_SET_IOBITMAP => set_iobitmap(ctx, arg),
        abi::PHYSDEVOP_EOI => end_of_interrupt(ctx, arg),
        abi::PHYSDEVOP_IRQ_STATUS_QUERY => status(ctx, arg),
        abi::PHYSDEVOP_PIRQ_EOI_GMFN_V1 | abi::PHYSDEVOP_PIRQ_EOI_GMFN_V2 => eoi_page(ctx, arg),
        abi::PHYSDEVOP_GET_FREE_PIRQ => Err(errno::EOPNOTSUPP),
        abi::PHYSDEVOP_APIC_READ
        | abi::PHYSDEVOP_APIC_WRITE
        | abi::PHYSDEVOP_ALLOC_IRQ_VECTOR
        | abi::PHYSDEVOP_MAP_PIRQ
        | abi::PHYSDEVOP_UNMAP_PIRQ
        | abi::PHYSDEVOP_MANAGE_PCI_ADD
        | abi::PHYSDEVOP_MANAGE_PCI_REMOVE
        | abi::PHYSDEVOP_MANAGE_PCI_ADD_EXT
        | abi::PHYSDEVOP_PCI_DEVICE_ADD
        | abi::PHYSDEVOP_PCI_DEVICE_REMOVE
        | abi::PHYSDEVOP_PCI_DEVICE_RESET
        | abi::PHYSDEVOP_RESTORE_MSI
        | abi::PHYSDEVOP_RESTORE_MSI_EXT
        | abi::PHYSDEVOP_PREPARE_MSIX
        | abi::PHYSDEVOP_RELEASE_MSIX
        | abi::PHYSDEVOP_PCI_MMCFG_RESERVED
        | abi::PHYSDEVOP_SETUP_GSI
        | abi::PHYSDEVOP_DBGP_OP => {
            ctx.require_control()?;
            Err(errno::ENOSYS)
        }
        _ => Err(errno::ENOSYS),
    }
}

/// The old form: the sub-operation and its structure in one.
pub fn compat(ctx: &mut Ctx<'_>, args: Args) -> Result<i64, Errno> {
    let [arg, ..] = args.0;
    let op = get::<abi::PhysdevOp>(arg)?;
    let body = core::mem::offset_of!(abi::PhysdevOp, u) as u64;
    let at = arg.checked_add(body).ok_or(errno::EFAULT)?;
    match op.cmd {
        abi::PHYSDEVOP_IRQ_UNMASK_NOTIFY => Ok(0),
        abi::PHYSDEVOP_IRQ_STATUS_QUERY
        | abi::PHYSDEVOP_SET_IOPL
        | abi::PHYSDEVOP_SET_IOBITMAP
        | abi::PHYSDEVOP_APIC_READ
        | abi::PHYSDEVOP_APIC_WRITE
        | abi::PHYSDEVOP_ALLOC_IRQ_VECTOR => call(ctx, Args([u64::from(op.cmd), at, 0, 0, 0])),
        _ => Err(errno::ENOSYS),
    }
}

fn set_iopl(ctx: &mut Ctx<'_>, arg: u64) -> Result<i64, Errno> {
    let iopl = get::<abi::PhysdevSetIopl>(arg)?.iopl;
    if iopl > MOST_IOPL {
        return Err(errno::EINVAL);
    }
    ctx.st.iopl = iopl as u8;
    Ok(0)
}

/// The bitmap stays in the guest's memory, and is read at each access.
fn set_iobitmap(ctx: &mut Ctx<'_>, arg: u64) -> Result<i64, Errno> {
    let request = get::<abi::PhysdevSetIobitmap>(arg)?;
    let bytes = u64::from(request.nr_ports.div_ceil(8));
    if request.nr_ports > PORTS || !layout::guest_range(Vaddr(request.bitmap.0), bytes) {
        return Err(errno::EINVAL);
    }
    ctx.st.iobmp = (request.bitmap.0, request.nr_ports);
    Ok(0)
}

/// Whether the domain may have to do with an interrupt.
fn may_use(ctx: &Ctx<'_>, irq: u32) -> Result<(), Errno> {
    let irq = u64::from(irq);
    if ctx.dom.settings.lock().irqs.contains(irq..=irq) {
        Ok(())
    } else {
        Err(errno::EINVAL)
    }
}

fn end_of_interrupt(ctx: &Ctx<'_>, arg: u64) -> Result<i64, Errno> {
    may_use(ctx, get::<abi::PhysdevEoi>(arg)?.irq)?;
    Ok(0)
}

/// No interrupt needs an end by hypercall yet.
fn status(ctx: &Ctx<'_>, arg: u64) -> Result<i64, Errno> {
    let mut query = get::<abi::PhysdevIrqStatusQuery>(arg)?;
    may_use(ctx, query.irq)?;
    query.flags = 0;
    put(arg, &query)?;
    Ok(0)
}

/// A page of the guest's where the core tells which interrupts need an end: once for each domain.
fn eoi_page(ctx: &Ctx<'_>, arg: u64) -> Result<i64, Errno> {
    let frame = Mfn(get::<abi::PhysdevPirqEoiGmfn>(arg)?.gmfn);
    let page = HeldPage::of_guest(frame, ctx.dom.id()).ok_or(errno::EINVAL)?;
    let mut settings = ctx.dom.settings.lock();
    if settings.eoi_page.is_some() {
        return Err(errno::EBUSY);
    }
    page.page().zero();
    settings.eoi_page = Some(page);
    Ok(0)
}
