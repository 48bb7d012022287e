//! The I/O APICs belong to the core: domain 0 states how lines are wired and may read the registers.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::physdev as abi;

use super::super::Ctx;
use super::{interrupts, to_errno};
use crate::arch::ioapic::{self, NoSuch, Trigger};
use crate::kit::Maddr;
use crate::kit::Vaddr;
use crate::life::hardware_domain;

/// PHYSDEVOP_setup_gsi: sets a line's trigger mode and polarity.
pub fn setup(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    let op = ctx.guest().read::<abi::PhysdevSetupGsi>(arg)?;
    let gsi = u32::try_from(op.gsi).map_err(|_| errno::EINVAL)?;
    wire(
        ctx,
        gsi,
        Trigger::from_wire(op.triggering != 0, op.polarity != 0),
    )
}

/// Wires a line that the caller has the right to. EEXIST for a line that the core itself uses.
fn wire(ctx: &Ctx<'_>, gsi: u32, trigger: Trigger) -> Result<i64, Errno> {
    if hardware_domain::keeps_line(gsi) {
        // The core has wired the line and uses it.
        return Err(errno::EEXIST);
    }
    let line = u64::from(gsi);
    if !ctx.dom.io_rights.lock().irqs.contains(line..=line) {
        return Err(errno::EPERM);
    }
    interrupts()?.wire(gsi, trigger).map_err(to_errno)?;
    Ok(0)
}

/// PHYSDEVOP_alloc_irq_vector: returns the IRQ as its vector. As in Xen the number has no meaning, because the core
/// chooses vectors itself.
pub fn alloc_vector(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    let mut op = ctx.guest().read::<abi::PhysdevIrq>(arg)?;
    if op.irq >= ioapic::lines() {
        return Err(errno::EINVAL);
    }
    op.vector = op.irq;
    ctx.guest().write(arg, &op)?;
    Ok(0)
}

fn no_such(_: NoSuch) -> Errno {
    errno::EINVAL
}

/// PHYSDEVOP_apic_read: reads a register of an I/O APIC.
pub fn read(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    let mut op = ctx.guest().read::<abi::PhysdevApic>(arg)?;
    op.value = ioapic::register(Maddr(op.apic_physbase), op.reg).map_err(no_such)?;
    ctx.guest().write(arg, &op)?;
    Ok(0)
}

/// PHYSDEVOP_apic_write: takes a line's wiring from its redirection entry and ignores the vector, destination and
/// mask, which the core chooses.
pub fn write(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    ctx.require_control()?;
    let op = ctx.guest().read::<abi::PhysdevApic>(arg)?;
    let (gsi, lower) =
        ioapic::line_of_register(Maddr(op.apic_physbase), op.reg).map_err(no_such)?;
    if !lower {
        return Ok(0);
    }
    match wire(ctx, gsi, Trigger::from_entry(op.value)) {
        Err(errno::EEXIST) => Ok(0),
        other => other,
    }
}
