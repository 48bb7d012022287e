//! The initial page tables of a PV domain. As the hypervisor requires, they map page tables read-only.
//!
//! A wide kernel has four levels and shares ring 3 with its user mode, so its pages have the user bit. A narrow kernel has
//! three levels (PAE) and runs in ring 1, which pages without the user bit are for; entries of its root have no rights.

use alloc::vec;
use alloc::vec::Vec;

use guest_pv_abi::Width;

use crate::hyper::{Mfn, PAGE, Pfn};

use super::layout::{Layout, Mapping, Span, reaches_last_gib};

/// Bits of a page-table entry (Intel SDM vol. 3 §5.5, table 5-20).
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const TABLE: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;

/// The bits of a leaf entry.
fn leaf(width: Width, writable: bool) -> u64 {
    let user = match width {
        Width::Wide => USER,
        Width::Narrow => 0,
    };
    let rights = if writable { WRITABLE | DIRTY } else { 0 };
    PRESENT | ACCESSED | user | rights
}

/// Number of levels below the root.
fn levels_below(width: Width) -> usize {
    match width {
        Width::Wide => 3,
        Width::Narrow => 2,
    }
}

/// The bits of an entry for a table of that level. Entries of a PAE root have no rights (Intel SDM vol. 3 §4.4.1).
fn table_bits(width: Width, level: usize) -> u64 {
    match (width, level) {
        (Width::Narrow, 2) => PRESENT,
        _ => TABLE,
    }
}

/// The contents of the tables, in order.
pub(super) type Entries = Vec<[u64; 512]>;

/// Hands out the pages of a span as tables.
struct Pool<'a> {
    span: Span,
    used: u64,
    contents: &'a mut Entries,
}

impl Pool<'_> {
    fn next(&mut self) -> Option<(Pfn, usize)> {
        if self.used == self.span.pages {
            return None;
        }
        let pfn = Pfn(self.span.first.0 + self.used);
        self.used += 1;
        self.contents.push([0; 512]);
        Some((pfn, self.contents.len() - 1))
    }
}

/// Fills the tables for a layout: `tables` first, then `p2m_tables`.
///
/// Returns `None` if the layout lacks tables or `frames` lacks a page, which would be a bug of the planner.
pub(super) fn fill(layout: &Layout, frames: &[Mfn]) -> Option<Entries> {
    let mut contents: Entries = Vec::new();
    let mut top = Pool {
        span: layout.tables,
        used: 0,
        contents: &mut contents,
    };
    top.next()?;
    let mut first = true;
    for mapping in layout.mappings() {
        let (span, used) = if first {
            (layout.tables, 1)
        } else {
            (layout.p2m_tables, 0)
        };
        first = false;
        let mut pool = Pool {
            span,
            used,
            contents: &mut contents,
        };
        map(&mapping, &mut pool, layout, frames)?;
        if layout.width == Width::Narrow && !reaches_last_gib(mapping.address, mapping.pages) {
            // The hypervisor's range begins in this table, which the kernel's mapping doesn't need.
            let (pfn, _) = pool.next()?;
            let frame = frames.get(usize::try_from(pfn.0).ok()?)?.0;
            *pool.contents.first_mut()?.get_mut(3)? = frame << 12 | PRESENT;
        }
        let unused = pool.span.pages - pool.used;
        contents.extend(vec![[0; 512]; unused as usize]);
    }
    Some(contents)
}

/// Maps one range in the root, which is the first of the contents.
fn map(mapping: &Mapping, pool: &mut Pool, layout: &Layout, frames: &[Mfn]) -> Option<()> {
    let frame = |pfn: Pfn| frames.get(usize::try_from(pfn.0).ok()?).copied();
    // The current table at each of the levels 1 to 3, and the address at which its range begins.
    let mut open: [Option<(u64, usize)>; 3] = [None; 3];
    for page in 0..mapping.pages {
        let address = mapping.address.wrapping_add(page * PAGE as u64);
        let mut table = 0;
        for level in (1..=levels_below(layout.width)).rev() {
            let prefix = address >> (12 + 9 * level);
            let slot = open.get_mut(level - 1)?;
            table = match *slot {
                Some((same, at)) if same == prefix => at,
                _ => {
                    let (pfn, at) = pool.next()?;
                    let index = (prefix & 511) as usize;
                    *pool.contents.get_mut(table)?.get_mut(index)? =
                        frame(pfn)?.0 << 12 | table_bits(layout.width, level);
                    *slot = Some((prefix, at));
                    at
                }
            };
        }
        let pfn = Pfn(mapping.first.0 + page);
        let table_page = layout.tables.contains(pfn.0) || layout.p2m_tables.contains(pfn.0);
        let flags = leaf(layout.width, !table_page);
        let index = (address >> 12 & 511) as usize;
        *pool.contents.get_mut(table)?.get_mut(index)? = frame(pfn)?.0 << 12 | flags;
    }
    Some(())
}
