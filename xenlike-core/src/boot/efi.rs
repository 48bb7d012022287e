//! What UEFI leaves for domain 0 to find: its system table and memory map (UEFI 2.10 §4.3, §7.2). The core calls none
//! of its services: boot services have ended, and runtime services are refused (docs/adr/0011).
#![expect(unsafe_code, reason = "reads the firmware's tables")]

use alloc::vec::Vec;

use super::info::BootInfo;
use super::memory::map_device;
use crate::arch::mmio::Window;
use crate::arch::paging;
use crate::kit::Maddr;
use crate::life::hardware_domain::{Efi, EfiRegion};

/// The signature of the system table: "IBI SYST" in little-endian order.
const SIGNATURE: u64 = 0x5453_5953_2049_4249;
/// Offsets in the system table.
mod offset {
    pub const REVISION: usize = 8;
    pub const VENDOR: usize = 24;
    pub const VENDOR_REVISION: usize = 32;
    pub const RUNTIME: usize = 88;
    pub const CONFIG_COUNT: usize = 104;
    pub const CONFIG_TABLES: usize = 112;
}
const SYSTEM_TABLE_BYTES: u64 = 120;
/// More tables than any firmware has; a larger count is taken for garbage.
const MAX_TABLES: u64 = 1024;
const MAX_VENDOR: usize = 100;
/// The size of a page in an `EFI_MEMORY_DESCRIPTOR`.
const EFI_PAGE: u64 = 4096;

/// Maps firmware memory read-only, for good.
fn window(at: Maddr, bytes: u64) -> Option<Window> {
    let va = map_device(at, bytes, paging::RODATA)?;
    // SAFETY: mapped for good just now; the memory belongs to the firmware, no Rust object overlaps it, and it is only
    // read.
    Some(unsafe { Window::new(va, bytes as usize) })
}

/// Reads the tables; `None` on a machine without UEFI, or if they are implausible.
pub fn read(info: &BootInfo) -> Option<Efi> {
    let table = window(info.efi_system_table?, SYSTEM_TABLE_BYTES)?;
    let count = table.read64(offset::CONFIG_COUNT);
    if table.read64(0) != SIGNATURE || count > MAX_TABLES {
        return None;
    }
    let runtime = window(Maddr(table.read64(offset::RUNTIME)), 16);
    Some(Efi {
        revision: table.read32(offset::REVISION),
        runtime_revision: runtime.map_or(0, |runtime| runtime.read32(offset::REVISION)),
        vendor: vendor(Maddr(table.read64(offset::VENDOR))),
        vendor_revision: table.read32(offset::VENDOR_REVISION),
        config_tables: Maddr(table.read64(offset::CONFIG_TABLES)),
        config_count: count as u32,
        regions: regions(info),
    })
}

/// The vendor's name in UTF-16, up to its NUL.
fn vendor(at: Maddr) -> Vec<u16> {
    let Some(name) = window(at, 2 * MAX_VENDOR as u64) else {
        return Vec::new();
    };
    let units = (0..MAX_VENDOR).map(|n| name.read16(2 * n));
    units.take_while(|unit| *unit != 0).collect()
}

fn regions(info: &BootInfo) -> Vec<EfiRegion> {
    let Some(tag) = info.efi_memory_map() else {
        return Vec::new();
    };
    let region = |area: &multiboot2::EFIMemoryDesc| EfiRegion {
        start: area.phys_start,
        end: area
            .phys_start
            .saturating_add(area.page_count.saturating_mul(EFI_PAGE)),
        kind: area.ty.0,
        attributes: area.att.bits(),
    };
    tag.memory_areas().map(region).collect()
}
