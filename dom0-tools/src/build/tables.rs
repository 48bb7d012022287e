//! The initial page tables of a PV64 domain. As the hypervisor requires, they map page tables read-only.

use alloc::vec;
use alloc::vec::Vec;

use crate::hyper::{Mfn, PAGE, Pfn};

use super::layout::{Layout, Mapping, Span};

/// Bits of a page-table entry (Intel SDM vol. 3 §5.5, table 5-20).
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const READ_ONLY_LEAF: u64 = PRESENT | USER | ACCESSED;
const LEAF: u64 = READ_ONLY_LEAF | WRITABLE | DIRTY;
const TABLE: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;

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
        let unused = pool.span.pages - pool.used;
        contents.extend(vec![[0; 512]; unused as usize]);
    }
    Some(contents)
}

/// Maps one range in the L4 table, which is the first of the contents.
fn map(mapping: &Mapping, pool: &mut Pool, layout: &Layout, frames: &[Mfn]) -> Option<()> {
    let frame = |pfn: Pfn| frames.get(usize::try_from(pfn.0).ok()?).copied();
    // The current table at each of the levels 1 to 3, and the address at which its range begins.
    let mut open: [Option<(u64, usize)>; 3] = [None; 3];
    for page in 0..mapping.pages {
        let address = mapping.address.wrapping_add(page * PAGE as u64);
        let mut table = 0;
        for level in (1..=3).rev() {
            let prefix = address >> (12 + 9 * level);
            let slot = open.get_mut(level - 1)?;
            table = match *slot {
                Some((same, at)) if same == prefix => at,
                _ => {
                    let (pfn, at) = pool.next()?;
                    let index = (prefix & 511) as usize;
                    *pool.contents.get_mut(table)?.get_mut(index)? = frame(pfn)?.0 << 12 | TABLE;
                    *slot = Some((prefix, at));
                    at
                }
            };
        }
        let pfn = Pfn(mapping.first.0 + page);
        let table_page = layout.tables.contains(pfn.0) || layout.p2m_tables.contains(pfn.0);
        let flags = if table_page { READ_ONLY_LEAF } else { LEAF };
        let index = (address >> 12 & 511) as usize;
        *pool.contents.get_mut(table)?.get_mut(index)? = frame(pfn)?.0 << 12 | flags;
    }
    Some(())
}
