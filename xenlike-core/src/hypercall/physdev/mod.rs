//! physdev_op: I/O privileges of every domain, and questions about physical interrupts. Routing of interrupts and PCI
//! devices is reserved for the hardware domain.

mod eoi;
mod io_apic;
mod map;
mod pci;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::physdev as abi;

use super::Ctx;
use super::arguments::{Command, Structure};
use crate::irq::machine::{Hardware, book};
use crate::irq::{Book, IrqError};
use crate::kit::Vaddr;
use crate::kit::lock::LockGuard;
use crate::mm::guest::offset_in;
use crate::mm::layout;

/// The maximum I/O privilege level.
const MAX_IOPL: u32 = 3;
/// Number of I/O ports.
const PORTS: u32 = 0x1_0000;

/// `physdev_op(cmd, arg)`: dispatches the command.
pub fn call(ctx: &mut Ctx<'_>, args: &Command) -> Result<i64, Errno> {
    let arg = args.arg;
    match args.cmd {
        abi::PHYSDEVOP_SET_IOPL => set_iopl(ctx, arg),
        abi::PHYSDEVOP_SET_IOBITMAP => set_iobitmap(ctx, arg),
        abi::PHYSDEVOP_EOI => eoi::end(ctx, arg),
        abi::PHYSDEVOP_IRQ_STATUS_QUERY => eoi::status(ctx, arg),
        abi::PHYSDEVOP_PIRQ_EOI_GMFN_V1 => eoi::page(ctx, arg, eoi::Form::First),
        abi::PHYSDEVOP_PIRQ_EOI_GMFN_V2 => eoi::page(ctx, arg, eoi::Form::Second),
        abi::PHYSDEVOP_MAP_PIRQ => map::map(ctx, arg),
        abi::PHYSDEVOP_UNMAP_PIRQ => map::unmap(ctx, arg),
        abi::PHYSDEVOP_GET_FREE_PIRQ => map::free_number(ctx, arg),
        abi::PHYSDEVOP_SETUP_GSI => io_apic::setup(ctx, arg),
        abi::PHYSDEVOP_ALLOC_IRQ_VECTOR => io_apic::alloc_vector(ctx, arg),
        abi::PHYSDEVOP_APIC_READ => io_apic::read(ctx, arg),
        abi::PHYSDEVOP_APIC_WRITE => io_apic::write(ctx, arg),
        abi::PHYSDEVOP_PCI_DEVICE_ADD => pci::add(ctx, arg),
        abi::PHYSDEVOP_PCI_DEVICE_REMOVE => pci::remove(ctx, arg),
        abi::PHYSDEVOP_PCI_DEVICE_RESET => pci::reset(ctx, arg),
        abi::PHYSDEVOP_MANAGE_PCI_ADD => pci::add_old(ctx, arg),
        abi::PHYSDEVOP_MANAGE_PCI_ADD_EXT => pci::add_extended(ctx, arg),
        abi::PHYSDEVOP_MANAGE_PCI_REMOVE => pci::remove_old(ctx, arg),
        abi::PHYSDEVOP_RESTORE_MSI => pci::restore_old(ctx, arg),
        abi::PHYSDEVOP_RESTORE_MSI_EXT => pci::restore(ctx, arg),
        abi::PHYSDEVOP_PREPARE_MSIX => pci::ready_table(ctx, arg),
        abi::PHYSDEVOP_RELEASE_MSIX => pci::release_table(ctx, arg),
        abi::PHYSDEVOP_PCI_MMCFG_RESERVED => pci::mmcfg(ctx, arg),
        abi::PHYSDEVOP_DBGP_OP => {
            ctx.require_control()?;
            // The core uses no USB debug port, so there is nothing to prepare.
            ctx.guest().read::<abi::PhysdevDbgpOp>(arg)?;
            Ok(0)
        }
        // The oldest kernels call this after an interrupt.
        abi::PHYSDEVOP_IRQ_UNMASK_NOTIFY => Ok(0),
        _ => Err(errno::ENOSYS),
    }
}

/// Locks the book of the machine's interrupts. ENODEV if there is none.
fn interrupts() -> Result<LockGuard<'static, Book<Hardware>>, Errno> {
    book().ok_or(errno::ENODEV)
}

pub(super) fn to_errno(error: IrqError) -> Errno {
    match error {
        IrqError::BadNumber | IrqError::Taken => errno::EINVAL,
        IrqError::Exists => errno::EEXIST,
        IrqError::Busy => errno::EBUSY,
        IrqError::NoDevice => errno::ENODEV,
        IrqError::NoMemoryAccess => errno::ENXIO,
        IrqError::NoSpace => errno::ENOSPC,
        IrqError::NoMemory => errno::ENOMEM,
    }
}

/// `physdev_op_compat(op)`: the older call, with the command inside the structure.
pub fn compat(ctx: &mut Ctx<'_>, args: &Structure) -> Result<i64, Errno> {
    let op = ctx.guest().read::<abi::PhysdevOp>(args.at)?;
    let body = offset_in!(ctx.st.kind.width(), abi::PhysdevOp, u);
    let arg = args.at.checked_add(body).ok_or(errno::EFAULT)?;
    match op.cmd {
        abi::PHYSDEVOP_IRQ_UNMASK_NOTIFY => Ok(0),
        abi::PHYSDEVOP_IRQ_STATUS_QUERY
        | abi::PHYSDEVOP_SET_IOPL
        | abi::PHYSDEVOP_SET_IOBITMAP
        | abi::PHYSDEVOP_APIC_READ
        | abi::PHYSDEVOP_APIC_WRITE
        | abi::PHYSDEVOP_ALLOC_IRQ_VECTOR => call(ctx, &Command { cmd: op.cmd, arg }),
        _ => Err(errno::ENOSYS),
    }
}

fn set_iopl(ctx: &mut Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    let iopl = ctx.guest().read::<abi::PhysdevSetIopl>(arg)?.iopl;
    if iopl > MAX_IOPL {
        return Err(errno::EINVAL);
    }
    ctx.st.pv_mut().iopl = iopl as u8;
    Ok(0)
}

/// Sets the calling vCPU's I/O bitmap, which stays in guest memory and is read at each access.
fn set_iobitmap(ctx: &mut Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    let request = ctx.guest().read::<abi::PhysdevSetIobitmap>(arg)?;
    let bytes = u64::from(request.nr_ports.div_ceil(8));
    if request.nr_ports > PORTS || !layout::guest_range(Vaddr(request.bitmap.0), bytes) {
        return Err(errno::EINVAL);
    }
    ctx.st.pv_mut().iobmp = (request.bitmap.0, request.nr_ports);
    Ok(0)
}
