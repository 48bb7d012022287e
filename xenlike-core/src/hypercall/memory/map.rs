//! Memory maps in the format of E820: the one shown to a domain, and the machine's.

use alloc::vec::Vec;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::memory::{
    E820Entry, ForeignMemoryMap, MemoryMap, ReservedDeviceMemoryMap, XENMEM_RDM_ALL,
};

use super::Ctx;
use crate::kit::Vaddr;
use crate::life::hardware_domain;

/// The maximum number of entries of a map (E820MAX).
const MAX_ENTRIES: u32 = 128;

/// XENMEM_memory_map: returns the memory map that the toolstack set for the domain. ENOSYS if it set none.
pub(super) fn get_own(ctx: &Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    let mut asked: MemoryMap = ctx.guest().read(at)?;
    let map = ctx.dom.memory_map.lock();
    if map.is_empty() {
        return Err(errno::ENOSYS);
    }
    let fits = map.len().min(asked.nr_entries as usize);
    for (n, entry) in map.iter().take(fits).enumerate() {
        write_entry(ctx, asked.buffer.0, n, entry)?;
    }
    drop(map);
    asked.nr_entries = fits as u32;
    Ok(ctx.guest().write(at, &asked)?)
}

/// XENMEM_set_memory_map: sets the memory map that a domain is shown.
pub(super) fn set(ctx: &Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    let asked: ForeignMemoryMap = ctx.guest().read(at)?;
    if asked.map.nr_entries > MAX_ENTRIES {
        return Err(errno::EINVAL);
    }
    let dom = ctx.target(asked.domid)?;
    let mut entries = Vec::new();
    entries
        .try_reserve_exact(asked.map.nr_entries as usize)
        .map_err(|_| errno::ENOMEM)?;
    for n in 0..asked.map.nr_entries {
        let entry = ctx.guest().read_at(Vaddr(asked.map.buffer.0), n.into());
        entries.push(entry?);
    }
    *dom.memory_map.lock() = entries;
    Ok(())
}

/// XENMEM_machine_memory_map: returns the firmware's map and the interrupt controllers, for the domain that drives
/// the hardware.
pub(super) fn get_machine(ctx: &Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    ctx.require_control()?;
    let mut asked: MemoryMap = ctx.guest().read(at)?;
    let map = hardware_domain::memory_map();
    // A null buffer asks for the number of entries.
    let shown = if asked.buffer.is_null() { 0 } else { map.len() };
    if shown > asked.nr_entries as usize {
        return Err(errno::EINVAL);
    }
    for (n, region) in map.iter().take(shown).enumerate() {
        let entry = E820Entry {
            addr: region.start,
            size: region.bytes,
            type_: region.kind,
        };
        write_entry(ctx, asked.buffer.0, n, &entry)?;
    }
    asked.nr_entries = map.len() as u32;
    Ok(ctx.guest().write(at, &asked)?)
}

/// XENMEM_reserved_device_memory_map: always empty, because there is no IOMMU.
pub(super) fn reserved_for_devices(ctx: &Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    let mut asked: ReservedDeviceMemoryMap = ctx.guest().read(at)?;
    if asked.flags & !XENMEM_RDM_ALL != 0 {
        return Err(errno::EINVAL);
    }
    asked.nr_entries = 0;
    Ok(ctx.guest().write(at, &asked)?)
}

fn write_entry(ctx: &Ctx<'_>, buffer: u64, n: usize, entry: &E820Entry) -> Result<(), Errno> {
    Ok(ctx.guest().write_at(Vaddr(buffer), n as u64, entry)?)
}
