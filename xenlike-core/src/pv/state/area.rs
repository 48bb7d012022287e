//! The per-domain area (L4 slot 260): the hypervisor's page tables for the GDT and LDT windows of a domain's vCPUs. It has
//! one L3, one L2, and an L1 for every sixteen vCPUs.

use crate::kit::atomic::Ordering;
use alloc::vec::Vec;

use crate::arch::paging::pte;
use crate::kit::{Mfn, VcpuId};
use crate::mm::SharedPage;
use crate::mm::alloc::{Where, alloc_frame, free};
use crate::pagetype::window::{WINDOW_PAGES, WINDOWS_PER_L1, Window};

/// The number of vCPUs for whose windows one L2 has room.
pub const MAX_VCPUS: u32 = 512 * WINDOWS_PER_L1;

/// The flags of an entry that links a lower table of the hypervisor, which ring 3 can't use.
const LINK: u64 = pte::P | pte::RW | pte::A | pte::D;

/// A table could not be allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// The tables of one domain's area. They are freed when this value is dropped, which must outlive every L4 that
/// refers to them.
#[derive(Debug)]
pub struct Area {
    /// The L3, the L2, then the L1s.
    tables: Vec<Mfn>,
    /// A page for the vcpu_infos of vCPUs beyond the 32 for which shared_info has room.
    spare: Mfn,
}

impl Area {
    /// Allocates the tables of `vcpus` empty windows.
    ///
    /// # Errors
    /// If there are no frames for them, or if there are more than [`MAX_VCPUS`].
    #[inline(always)] // has one caller
    pub fn new(vcpus: u32) -> Result<Self, NoMemory> {
        if vcpus > MAX_VCPUS {
            return Err(NoMemory);
        }
        let l1s = vcpus.div_ceil(WINDOWS_PER_L1) as usize;
        let mut tables = Vec::new();
        tables
            .try_reserve_exact(l1s.saturating_add(2))
            .map_err(|_| NoMemory)?;
        let spare = alloc_frame(Where::ANY).ok_or(NoMemory)?;
        let mut area = Self { tables, spare };
        let l3 = area.add()?;
        let l2 = area.add()?;
        link(l3, 0, l2)?;
        for n in 0..l1s {
            let l1 = area.add()?;
            link(l2, n, l1)?;
        }
        Ok(area)
    }

    fn add(&mut self) -> Result<Mfn, NoMemory> {
        let table = alloc_frame(Where::ANY).ok_or(NoMemory)?;
        self.tables.push(table);
        Ok(table)
    }

    /// Returns the entry for the area's slot in the domain's L4s.
    pub fn l4_entry(&self) -> u64 {
        self.tables.first().map_or(0, |l3| l3.maddr().0 | LINK)
    }

    /// The page of the vcpu_infos that no guest sees.
    pub const fn spare(&self) -> Mfn {
        self.spare
    }

    /// The window of a vCPU; nothing if the area has none for it.
    pub fn window(&self, vcpu: VcpuId) -> Option<Window> {
        let l1 = self
            .tables
            .get(((vcpu.0 / WINDOWS_PER_L1) as usize).saturating_add(2))?;
        let first = ((vcpu.0 % WINDOWS_PER_L1) as usize).wrapping_mul(WINDOW_PAGES);
        Some(Window { l1: *l1, first })
    }
}

fn link(table: Mfn, index: usize, to: Mfn) -> Result<(), NoMemory> {
    let page = SharedPage::new(table).ok_or(NoMemory)?;
    let entry = page.u64(index.wrapping_mul(8)).ok_or(NoMemory)?;
    entry.store(to.maddr().0 | LINK, Ordering::Relaxed);
    Ok(())
}

impl Drop for Area {
    fn drop(&mut self) {
        for table in &self.tables {
            free(*table, 0);
        }
        free(self.spare, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_lie_where_the_address_map_says() {
        let area = Area::new(20).unwrap();
        assert_eq!(area.tables.len(), 4);
        let window = area.window(VcpuId(17)).unwrap();
        assert_eq!((window.l1, window.first), (area.tables[3], 32));
        assert!(area.window(VcpuId(32)).is_none());
        // The first page of vCPU 17 is entry 32 of the second L1, at 2 MiB plus 128 KiB in the slot.
        let va = crate::mm::layout::gdt_window(17);
        assert_eq!((va.index(3), va.index(2), va.index(1)), (0, 1, 32));
    }

    #[test]
    fn too_many_vcpus_are_refused() {
        assert!(Area::new(MAX_VCPUS + 1).is_err());
    }
}
