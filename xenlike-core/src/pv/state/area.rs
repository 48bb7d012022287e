//! The per-domain area (L4 slot 260): the core's own tables for the GDT and LDT windows of a
//! domain's vCPUs. One L3 and one L2, and an L1 for every sixteen vCPUs.

use crate::kit::atomic::Ordering;
use alloc::vec::Vec;

use super::window::{WINDOW_PAGES, WINDOWS_PER_L1, Window};
use crate::arch::paging::pte;
use crate::kit::{Mfn, VcpuId};
use crate::mm::SharedPage;
use crate::mm::alloc::{Where, alloc_frame, free};

/// vCPUs that one L2 has room for.
pub const MOST_VCPUS: u32 = 512 * WINDOWS_PER_L1;

/// A table entry that leads to another table: the core's, out of ring 3's reach.
const LINK: u64 = pte::P | pte::RW | pte::A | pte::D;

/// No memory for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// The tables of one domain's area. They go with this value, which outlives every L4 that names them.
#[derive(Debug)]
pub struct Area {
    /// L3, L2, then the L1s.
    tables: Vec<Mfn>,
    /// A page for what the core keeps of vCPUs for which shared_info has no room.
    spare: Mfn,
}

impl Area {
    /// Tables for `vcpus` windows, all empty.
    ///
    /// # Errors
    /// If there are no frames for them, or more vCPUs than an area has room for.
    pub fn new(vcpus: u32) -> Result<Self, NoMemory> {
        if vcpus > MOST_VCPUS {
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

    /// The entry for the area's slot in the domain's L4s.
    pub fn l4_entry(&self) -> u64 {
        self.tables.first().map_or(0, |l3| l3.maddr().0 | LINK)
    }

    /// The page that holds the vcpu_infos which no guest sees.
    pub const fn spare(&self) -> Mfn {
        self.spare
    }

    /// Where the window of a vCPU is.
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
        // vCPU 17's first page is entry 32 of the second L1: 2 MiB plus 128 KiB into the slot.
        let va = crate::mm::layout::gdt_window(17);
        assert_eq!((va.index(3), va.index(2), va.index(1)), (0, 1, 32));
    }

    #[test]
    fn too_many_vcpus_are_refused() {
        assert!(Area::new(MOST_VCPUS + 1).is_err());
    }
}
