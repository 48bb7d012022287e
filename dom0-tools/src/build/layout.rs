//! The memory layout of a new PV domain (xen.h, "Start-of-day memory layout").
//!
//! From the virtual base upwards: kernel, initrd (unless the kernel takes it unmapped), the P2M list (unless the
//! kernel places it elsewhere, `INIT_P2M`), start info, Xenstore page, console page, page tables, stack. The mapping
//! ends at a 4 MiB boundary, with at least 512 KiB unused. Unmapped parts follow its end. It is the same in both widths,
//! apart from the size of a P2M entry and the number of page tables.

use alloc::format;
use alloc::string::String;

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::narrow::COMPAT_VIRT_START;

use crate::hyper::{PAGE, Pfn};
use crate::image::PvKernel;

const PAGE_BYTES: u64 = PAGE as u64;
/// Alignment of the initial mapping's end, in bytes.
const ALIGNMENT: u64 = 4 << 20;
/// Minimum number of unused bytes at the end of the initial mapping.
const SLACK: u64 = 512 << 10;
/// Number of entries in a page table.
const ENTRIES: u64 = 512;

/// A range of consecutive pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Number of the first page.
    pub first: Pfn,
    /// Number of pages in the range.
    pub pages: u64,
}

impl Span {
    /// Number of the page after the last one.
    #[must_use]
    pub fn end(self) -> u64 {
        self.first.0 + self.pages
    }

    /// Whether the page is in the range.
    #[must_use]
    pub fn contains(self, pfn: u64) -> bool {
        (self.first.0..self.end()).contains(&pfn)
    }
}

/// The inputs of the layout.
#[derive(Debug, Clone, Copy)]
pub struct Wishes<'a> {
    /// The kernel to load.
    pub kernel: &'a PvKernel,
    /// Size of the initrd in bytes; 0 without one.
    pub initrd_bytes: u64,
    /// Number of pages that the domain has.
    pub pages: u64,
}

/// The place of each part of a new domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Width of the kernel.
    pub width: Width,
    /// Virtual address of page 0.
    pub virt_base: u64,
    /// Number of pages in the initial mapping, which starts with page 0.
    pub mapped_pages: u64,
    /// The pages of the initrd, if there is one.
    pub initrd: Option<Span>,
    /// Whether the initrd is in the initial mapping.
    pub initrd_mapped: bool,
    /// The pages of the P2M list.
    pub p2m: Span,
    /// Virtual address of the P2M list.
    pub p2m_address: u64,
    /// Page tables that only the P2M list needs. They follow it and are in no mapping.
    pub p2m_tables: Span,
    /// The page of the start info.
    pub start_info: Pfn,
    /// The page of the Xenstore ring.
    pub store: Pfn,
    /// The page of the console ring.
    pub console: Pfn,
    /// The pages of the page tables; the first is the root.
    pub tables: Span,
    /// The page of the initial stack.
    pub stack: Pfn,
}

/// A range of virtual addresses to map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) address: u64,
    pub(super) first: Pfn,
    pub(super) pages: u64,
}

/// Number of tables that a mapping needs at levels 1 to 3.
pub(super) fn tables_for(address: u64, pages: u64) -> [u64; 3] {
    let first = address / PAGE_BYTES;
    let last = first + pages.max(1) - 1;
    [1, 2, 3].map(|level| {
        let covers = ENTRIES.pow(level);
        last / covers - first / covers + 1
    })
}

/// Number of page tables, root included, that map `pages` pages from `virt_base` on.
fn tables_of(width: Width, virt_base: u64, pages: u64) -> u64 {
    let [l1, l2, l3] = tables_for(virt_base, pages);
    match width {
        Width::Wide => 1 + l1 + l2 + l3,
        // The L2 table of the last GiB must exist, for the hypervisor's range.
        Width::Narrow => 1 + l1 + l2 + u64::from(!reaches_last_gib(virt_base, pages)),
    }
}

/// Whether a mapping in a narrow address space reaches the last GiB, to which the last entry of the root belongs.
pub(super) fn reaches_last_gib(address: u64, pages: u64) -> bool {
    address + pages * PAGE_BYTES > 3 << 30
}

/// Number of pages from `virt_base` to the end of the addresses that a mapping may use.
fn pages_above(width: Width, virt_base: u64) -> u64 {
    match width {
        // The mapping must not wrap.
        Width::Wide => virt_base.wrapping_neg().wrapping_sub(1) / PAGE_BYTES + 1,
        Width::Narrow => COMPAT_VIRT_START.saturating_sub(virt_base) / PAGE_BYTES,
    }
}

/// Hands out pages in order, up to the end of the domain's memory.
struct Cursor {
    next: u64,
    limit: u64,
}

impl Cursor {
    fn take(&mut self, pages: u64, what: &str) -> Result<Span, String> {
        let first = self.next;
        match first.checked_add(pages) {
            Some(end) if end <= self.limit => self.next = end,
            _ => {
                let (have, need) = (mib(self.limit), mib(first.saturating_add(pages)));
                return Err(format!(
                    "memory of {have} MiB is too small: {what} ends at {need} MiB"
                ));
            }
        }
        Ok(Span {
            first: Pfn(first),
            pages,
        })
    }

    fn page(&mut self, what: &str) -> Result<Pfn, String> {
        Ok(self.take(1, what)?.first)
    }
}

fn mib(pages: u64) -> u64 {
    pages.div_ceil(256)
}

/// Number of page tables and end of the initial mapping, if its other contents end before page `used`.
fn size_tables(width: Width, virt_base: u64, used: u64, limit: u64) -> (u64, u64) {
    let mut tables = 1;
    // The tables are inside the mapping that they map, so more tables may need still more tables. The
    // number only grows, and the loop ends when it suffices.
    loop {
        // The stack's page follows the page tables.
        let end = virt_base.wrapping_add((used + tables + 1) * PAGE_BYTES);
        let end = end.wrapping_add(SLACK).wrapping_add(ALIGNMENT - 1) & !(ALIGNMENT - 1);
        let pages = (end.wrapping_sub(virt_base) / PAGE_BYTES)
            .min(limit)
            .max(used + tables + 1);
        let pages = pages.min(pages_above(width, virt_base));
        let needed = tables_of(width, virt_base, pages);
        if needed <= tables {
            return (tables, pages);
        }
        tables = needed;
    }
}

impl Layout {
    /// Plans the layout of a domain.
    ///
    /// # Errors
    /// A message about the part that doesn't fit.
    pub fn plan(wishes: &Wishes) -> Result<Layout, String> {
        let kernel = wishes.kernel;
        let mut cursor = Cursor {
            next: 0,
            limit: wishes.pages,
        };
        let initrd_pages = wishes.initrd_bytes.div_ceil(PAGE_BYTES);
        cursor.take(
            (kernel.end - kernel.virt_base).div_ceil(PAGE_BYTES),
            "the kernel",
        )?;
        let initrd_mapped = initrd_pages > 0 && !kernel.unmapped_initrd;
        let mut initrd = None;
        if initrd_mapped {
            initrd = Some(cursor.take(initrd_pages, "the initrd")?);
        }
        let entry_bytes = match kernel.width {
            Width::Wide => size_of::<u64>(),
            Width::Narrow => size_of::<u32>(),
        };
        let p2m_pages = (wishes.pages * entry_bytes as u64).div_ceil(PAGE_BYTES);
        let inside = match kernel.init_p2m {
            None => Some(cursor.take(p2m_pages, "the list of frames")?),
            Some(_) => None,
        };
        let start_info = cursor.page("the start info page")?;
        let store = cursor.page("the Xenstore page")?;
        let console = cursor.page("the console page")?;
        let (tables, mapped_pages) =
            size_tables(kernel.width, kernel.virt_base, cursor.next, wishes.pages);
        let tables = cursor.take(tables, "the page tables")?;
        let stack = cursor.page("the stack")?;
        let address = |pfn: Pfn| kernel.virt_base.wrapping_add(pfn.0 * PAGE_BYTES);
        let half = 1 << 47;
        if cursor.next > mapped_pages
            || kernel.virt_base < half && address(Pfn(mapped_pages)) > half
        {
            return Err("the kernel and its initrd reach past the end of the address space".into());
        }
        cursor.next = mapped_pages;
        if initrd_pages > 0 && !initrd_mapped {
            initrd = Some(cursor.take(initrd_pages, "the initrd")?);
        }
        let none = Span {
            first: Pfn(0),
            pages: 0,
        };
        let (p2m, p2m_address, p2m_tables) = match (inside, kernel.init_p2m) {
            (Some(span), _) => (span, address(span.first), none),
            (None, at) => {
                let at = at.unwrap_or_default();
                let span = cursor.take(p2m_pages, "the list of frames")?;
                let needed = tables_for(at, p2m_pages).iter().sum();
                (
                    span,
                    at,
                    cursor.take(needed, "the page tables of the list of frames")?,
                )
            }
        };
        let layout = Layout {
            width: kernel.width,
            virt_base: kernel.virt_base,
            mapped_pages,
            initrd,
            initrd_mapped,
            p2m,
            p2m_address,
            p2m_tables,
            start_info,
            store,
            console,
            tables,
            stack,
        };
        layout.check_p2m_place(kernel)?;
        Ok(layout)
    }

    /// Checks that the P2M list shares no L3 table with the initial mapping, since each has tables of its own.
    fn check_p2m_place(&self, kernel: &PvKernel) -> Result<(), String> {
        let Some(at) = kernel.init_p2m else {
            return Ok(());
        };
        let slots = |from: u64, pages: u64| {
            (from >> 39 & 511)..=((from + (pages - 1) * PAGE_BYTES) >> 39 & 511)
        };
        let (initial, list) = (
            slots(self.virt_base, self.mapped_pages),
            slots(at, self.p2m.pages),
        );
        if initial.start() <= list.end() && list.start() <= initial.end() {
            return Err(format!(
                "the list of frames at {at:#x} (INIT_P2M) is too near to the kernel"
            ));
        }
        Ok(())
    }

    /// Virtual address of a page in the initial mapping.
    #[must_use]
    pub fn address(&self, pfn: Pfn) -> u64 {
        self.virt_base.wrapping_add(pfn.0 * PAGE_BYTES)
    }

    /// The ranges that the page tables are to map.
    pub(super) fn mappings(&self) -> impl Iterator<Item = Mapping> {
        let initial = Mapping {
            address: self.virt_base,
            first: Pfn(0),
            pages: self.mapped_pages,
        };
        let list = Mapping {
            address: self.p2m_address,
            first: self.p2m.first,
            pages: self.p2m.pages,
        };
        let apart = self.p2m_tables.pages > 0;
        [Some(initial), apart.then_some(list)].into_iter().flatten()
    }
}
