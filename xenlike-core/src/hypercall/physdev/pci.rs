//! PCI functions, of which domain 0 tells the core.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::physdev as abi;

use super::super::Ctx;
use super::{interrupts, to_errno};
use crate::irq::Function;
use crate::kit::Vaddr;

/// A function of the first segment: the core reaches no others.
pub fn function(segment: u16, bus: u8, devfn: u8) -> Result<Function, Errno> {
    if segment == 0 {
        Ok(Function { bus, devfn })
    } else {
        Err(errno::ENODEV)
    }
}

fn named(ctx: &Ctx<'_>, arg: Vaddr) -> Result<Function, Errno> {
    let device = ctx.guest().read::<abi::PhysdevPciDevice>(arg)?;
    function(device.seg, device.bus, device.devfn)
}

fn named_old(ctx: &Ctx<'_>, arg: Vaddr) -> Result<Function, Errno> {
    let device = ctx.guest().read::<abi::PhysdevManagePci>(arg)?;
    function(0, device.bus, device.devfn)
}

fn add_function(ctx: &Ctx<'_>, function: Function) -> Result<i64, Errno> {
    ctx.require_control()?;
    interrupts()?.add_function(function).map_err(to_errno)?;
    Ok(0)
}

fn remove_function(ctx: &Ctx<'_>, function: Function) -> Result<i64, Errno> {
    ctx.require_control()?;
    interrupts()?.remove_function(function).map_err(to_errno)?;
    Ok(0)
}

fn restore_function(ctx: &Ctx<'_>, function: Function) -> Result<i64, Errno> {
    ctx.require_control()?;
    interrupts()?.restore(function).map_err(to_errno)?;
    Ok(0)
}

/// PHYSDEVOP_pci_device_add. Functions of other segments are taken note of by nobody: they have no
/// messages.
pub fn add(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    let op = ctx.guest().read::<abi::PhysdevPciDeviceAdd>(arg)?;
    match function(op.seg, op.bus, op.devfn) {
        Ok(function) => add_function(ctx, function),
        Err(_) => Ok(0),
    }
}

/// PHYSDEVOP_manage_pci_add
pub fn add_old(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    add_function(ctx, named_old(ctx, arg)?)
}

/// PHYSDEVOP_manage_pci_add_ext
pub fn add_extended(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    let op = ctx.guest().read::<abi::PhysdevManagePciExt>(arg)?;
    if op.is_extfn > 1 || op.is_virtfn > 1 {
        return Err(errno::EINVAL);
    }
    add_function(ctx, function(0, op.bus, op.devfn)?)
}

/// PHYSDEVOP_pci_device_remove
pub fn remove(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    remove_function(ctx, named(ctx, arg)?)
}

/// PHYSDEVOP_manage_pci_remove
pub fn remove_old(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    remove_function(ctx, named_old(ctx, arg)?)
}

/// PHYSDEVOP_restore_msi_ext
pub fn restore(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    restore_function(ctx, named(ctx, arg)?)
}

/// PHYSDEVOP_restore_msi
pub fn restore_old(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    restore_function(ctx, named_old(ctx, arg)?)
}

/// PHYSDEVOP_pci_device_reset: the function was reset, and the core's messages in it are gone.
pub fn reset(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    restore_function(ctx, named(ctx, arg)?)
}

/// PHYSDEVOP_prepare_msix: from now on nobody maps the table writable.
pub fn ready_table(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    interrupts()?
        .ready_table(named(ctx, arg)?)
        .map_err(to_errno)?;
    Ok(0)
}

/// PHYSDEVOP_release_msix
pub fn release_table(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    interrupts()?
        .release_table(named(ctx, arg)?)
        .map_err(to_errno)?;
    Ok(0)
}

/// PHYSDEVOP_pci_mmcfg_reserved: the core uses the ports, and leaves the window to domain 0, which knows
/// from ACPI where one is.
pub fn mmcfg(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    let op = ctx.guest().read::<abi::PhysdevPciMmcfgReserved>(arg)?;
    if op.flags & !abi::XEN_PCI_MMCFG_RESERVED != 0 || op.start_bus > op.end_bus {
        return Err(errno::EINVAL);
    }
    if op.address == 0 {
        return Err(errno::ENODEV);
    }
    Ok(0)
}
