//! Page-table entries, and the mapper for the core's own part of the address space.

use crate::kit::atomic::{AtomicU64, Ordering};

use crate::kit::{Maddr, PAGE_SIZE, Vaddr};

/// Bits of page-table entries (APM vol. 2 §5.4).
pub mod pte {
    #![cfg_attr(clippy, expect(missing_docs, reason = "the manual's names"))]
    pub const P: u64 = 1;
    pub const RW: u64 = 1 << 1;
    pub const US: u64 = 1 << 2;
    pub const PWT: u64 = 1 << 3;
    pub const PCD: u64 = 1 << 4;
    pub const A: u64 = 1 << 5;
    pub const D: u64 = 1 << 6;
    /// In L2 and L3 entries: maps a large page.
    pub const PSE: u64 = 1 << 7;
    /// In L1 entries: the upper PAT index bit.
    pub const PAT: u64 = 1 << 7;
    pub const G: u64 = 1 << 8;
    /// The three bits that are free for software.
    pub const AVAIL: u64 = 7 << 9;
    pub const NX: u64 = 1 << 63;
    /// The bits of the frame's address.
    pub const ADDR: u64 = 0x000f_ffff_ffff_f000;
}

/// Flags of read-write data.
pub const DATA: u64 = pte::P | pte::RW | pte::A | pte::D | pte::NX;
/// Flags of read-only data.
pub const RODATA: u64 = pte::P | pte::A | pte::NX;
/// Flags of code: read-only and executable.
pub const TEXT: u64 = pte::P | pte::A;
/// Flags of device registers: uncached (PAT entry 3).
pub const DEVICE: u64 = DATA | pte::PCD | pte::PWT;
/// Flags of a frame buffer. PAT entry 4 is write-combining.
pub const FRAMEBUFFER: u64 = DATA | pte::PAT;
/// Flags of read-only data that guests may read too: the machine-to-physical table.
pub const GUEST_RODATA: u64 = RODATA | pte::US;

/// Flags of a link to a lower table. It grants everything, so the lower entries alone decide.
pub const TABLE_LINK: u64 = pte::P | pte::RW | pte::US | pte::A;

/// The 512 entries of a page table.
pub type Table = [AtomicU64; 512];

/// Where page tables are allocated and how their entries are accessed.
pub trait TableMemory {
    /// Allocates a zeroed table; `None` if memory is short.
    fn new_table(&mut self) -> Option<Maddr>;
    /// The entries of the table at machine address `at`.
    fn table(&self, at: Maddr) -> &Table;
    /// The largest pages that the machine can map.
    fn largest_page(&self) -> PageSizes;
}

/// The page sizes that may be used for a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageSizes {
    /// Only 4 KiB, for memory types and fine-grained permissions.
    Small,
    /// 4 KiB and 2 MiB.
    Large,
    /// 4 KiB, 2 MiB and 1 GiB.
    Huge,
}

/// Why a mapping could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// There is no memory for a table.
    NoMemory,
    /// An address of the range is mapped already.
    Occupied,
    /// An address or the length is not a multiple of the page size.
    Misaligned,
}

const fn bytes_of(level: u32) -> u64 {
    (PAGE_SIZE as u64) << (9 * (level - 1))
}

/// Maps `bytes` from machine address `to` at `at` under `l4`, with the largest pages of `sizes` that fit.
///
/// # Errors
/// [`MapError`] if memory for tables is short or part of the range is mapped. What was mapped so far stays.
pub fn map(
    memory: &mut impl TableMemory,
    l4: Maddr,
    at: Vaddr,
    to: Maddr,
    bytes: u64,
    flags: u64,
    sizes: PageSizes,
) -> Result<(), MapError> {
    if !(at.0 | to.0 | bytes).is_multiple_of(PAGE_SIZE as u64) {
        return Err(MapError::Misaligned);
    }
    let top = match (sizes, memory.largest_page()) {
        (PageSizes::Small, _) => 1,
        (PageSizes::Huge, PageSizes::Huge) => 3,
        _ => 2,
    };
    let mut done = 0;
    while done < bytes {
        let (va, pa) = (at.0 + done, to.0 + done);
        let fits =
            |level: &u32| (va | pa) % bytes_of(*level) == 0 && bytes - done >= bytes_of(*level);
        let level = (1..=top).rev().find(fits).unwrap_or(1);
        let table = walk(memory, l4, Vaddr(va), level)?;
        let slot = &memory.table(table)[Vaddr(va).index(level)];
        if slot.load(Ordering::Relaxed) & pte::P != 0 {
            return Err(MapError::Occupied);
        }
        slot.store(pa | leaf_flags(flags, level), Ordering::Release);
        done += bytes_of(level);
    }
    Ok(())
}

/// The flags of a leaf entry at `level`: in a large page the PAT bit is bit 12.
fn leaf_flags(flags: u64, level: u32) -> u64 {
    match level {
        1 => flags,
        _ if flags & pte::PAT != 0 => flags | 1 << 12,
        _ => flags | pte::PSE,
    }
}

/// The table of `level` on the path to `at`; missing tables are made.
fn walk(
    memory: &mut impl TableMemory,
    l4: Maddr,
    at: Vaddr,
    level: u32,
) -> Result<Maddr, MapError> {
    let mut table = l4;
    for upper in ((level + 1)..=4).rev() {
        let index = at.index(upper);
        let entry = memory.table(table)[index].load(Ordering::Relaxed);
        if entry & pte::P == 0 {
            let new = memory.new_table().ok_or(MapError::NoMemory)?;
            let link = new.0 | TABLE_LINK;
            memory.table(table)[index].store(link, Ordering::Release);
            table = new;
        } else if entry & pte::PSE != 0 {
            return Err(MapError::Occupied);
        } else {
            table = Maddr(entry & pte::ADDR);
        }
    }
    Ok(table)
}

/// The machine address to which `at` is mapped under `l4`.
pub fn translate(memory: &impl TableMemory, l4: Maddr, at: Vaddr) -> Option<Maddr> {
    let mut table = l4;
    for level in (1..=4).rev() {
        let entry = memory.table(table)[at.index(level)].load(Ordering::Relaxed);
        if entry & pte::P == 0 {
            return None;
        }
        if level == 1 || (level < 4 && entry & pte::PSE != 0) {
            let inside = bytes_of(level) - 1;
            return Some(Maddr(entry & pte::ADDR & !inside | at.0 & inside));
        }
        table = Maddr(entry & pte::ADDR);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::vec::Vec;

    struct Fake(Vec<Box<Table>>);

    impl TableMemory for Fake {
        fn new_table(&mut self) -> Option<Maddr> {
            self.0.push(Box::new([const { AtomicU64::new(0) }; 512]));
            Some(Maddr(self.0.len() as u64 * 4096))
        }
        fn table(&self, at: Maddr) -> &Table {
            &self.0[(at.0 / 4096 - 1) as usize]
        }
        fn largest_page(&self) -> PageSizes {
            PageSizes::Huge
        }
    }

    #[test]
    fn large_pages_where_they_fit() {
        let mut fake = Fake(Vec::new());
        let l4 = fake.new_table().unwrap();
        let at = Vaddr(0xffff_8300_0000_0000);
        let (from, bytes) = (Maddr(0x3fff_f000), 0x4020_2000);
        map(
            &mut fake,
            l4,
            Vaddr(at.0 + from.0),
            from,
            bytes,
            DATA,
            PageSizes::Huge,
        )
        .unwrap();
        for offset in [0, 0x1000, 0x1234, 0x4000_0fff, 0x4020_1fff] {
            let va = Vaddr(at.0 + from.0 + offset);
            assert_eq!(
                translate(&fake, l4, va),
                Some(Maddr(from.0 + offset)),
                "{offset:#x}"
            );
        }
        assert_eq!(translate(&fake, l4, Vaddr(at.0 + from.0 + bytes)), None);
        assert_eq!(translate(&fake, l4, Vaddr(at.0 + from.0 - 1)), None);
        // L4, L3, two L2 and two L1 (one for the page below the gigabyte, one for the pages behind the last 2 MiB).
        assert_eq!(fake.0.len(), 6);
    }

    #[test]
    fn refuses_to_map_over() {
        let mut fake = Fake(Vec::new());
        let l4 = fake.new_table().unwrap();
        let at = Vaddr(0xffff_8300_0000_0000);
        map(
            &mut fake,
            l4,
            at,
            Maddr(0),
            0x20_0000,
            DATA,
            PageSizes::Large,
        )
        .unwrap();
        let again = map(&mut fake, l4, at, Maddr(0), 0x1000, DATA, PageSizes::Small);
        assert_eq!(again, Err(MapError::Occupied));
        assert_eq!(
            map(
                &mut fake,
                l4,
                Vaddr(at.0 + 1),
                Maddr(0),
                1,
                DATA,
                PageSizes::Small
            ),
            Err(MapError::Misaligned)
        );
    }
}
