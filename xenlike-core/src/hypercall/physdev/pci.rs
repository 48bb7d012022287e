//! The PCI functions that domain 0 registers with the core.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::physdev as abi;

use super::super::Ctx;
use super::{interrupts, to_errno};
use crate::irq::Function;
use crate::kit::Vaddr;

/// A function of segment 0. ENODEV for other segments, which the core can't access.
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

/// PHYSDEVOP_pci_device_add: registers a function. Functions of other segments are accepted and ignored, so they
/// can't have messages.
pub fn add(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    let op = ctx.guest().read::<abi::PhysdevPciDeviceAdd>(arg)?;
    match function(op.seg, op.bus, op.devfn) {
        Ok(function) => add_function(ctx, function),
        Err(_) => Ok(0),
    }
}

/// PHYSDEVOP_manage_pci_add: the older form, for segment 0.
pub fn add_old(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    add_function(ctx, named_old(ctx, arg)?)
}

/// PHYSDEVOP_manage_pci_add_ext: the older form, with flags for extended and virtual functions.
pub fn add_extended(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    let op = ctx.guest().read::<abi::PhysdevManagePciExt>(arg)?;
    if op.is_extfn > 1 || op.is_virtfn > 1 {
        return Err(errno::EINVAL);
    }
    add_function(ctx, function(0, op.bus, op.devfn)?)
}

/// PHYSDEVOP_pci_device_remove: unregisters a function.
pub fn remove(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    remove_function(ctx, named(ctx, arg)?)
}

/// PHYSDEVOP_manage_pci_remove: the older form, for segment 0.
pub fn remove_old(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    remove_function(ctx, named_old(ctx, arg)?)
}

/// PHYSDEVOP_restore_msi_ext: writes a function's messages to it again, after the device lost power.
pub fn restore(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    restore_function(ctx, named(ctx, arg)?)
}

/// PHYSDEVOP_restore_msi: the older form, for segment 0.
pub fn restore_old(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    restore_function(ctx, named_old(ctx, arg)?)
}

/// PHYSDEVOP_pci_device_reset: writes a function's messages to it again, because a reset has erased them.
pub fn reset(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    restore_function(ctx, named(ctx, arg)?)
}

/// PHYSDEVOP_prepare_msix: prepares a function's MSI-X table. From now on no domain can map it writable.
pub fn ready_table(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    interrupts()?
        .ready_table(named(ctx, arg)?)
        .map_err(to_errno)?;
    Ok(0)
}

/// PHYSDEVOP_release_msix: undoes PHYSDEVOP_prepare_msix.
pub fn release_table(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    interrupts()?
        .release_table(named(ctx, arg)?)
        .map_err(to_errno)?;
    Ok(0)
}

/// PHYSDEVOP_pci_mmcfg_reserved: checks the request and does nothing. The core accesses configuration space by ports
/// and leaves the window to domain 0, which finds it through ACPI.
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
