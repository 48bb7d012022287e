//! The layout of the boot domain's memory, in the order of the PV ABI (xen.h, "start of day"): image,
//! modules, P2M, start_info, page tables, stack. Numbers are PFNs unless stated otherwise; PFN n is at
//! virtual address `virt_base` plus n pages.

use alloc::vec::Vec;

use guest_pv_abi::xenlike::BootModule;

use super::Module;
use super::image::Image;
use crate::kit::{PAGE_SIZE, Vaddr};

/// The number of pages of the initial stack.
const STACK_PAGES: u64 = 4;
/// The mapped memory extends so many pages beyond the stack, to a multiple of [`ROUND`] (xen.h).
const SLACK_PAGES: u64 = 128;
const ROUND: u64 = 1024;
/// The number of pages that the domain has at least, beyond those of the parts.
const MIN_FREE: u64 = 2048;
/// The size of a page in bytes.
const PAGE: u64 = PAGE_SIZE as u64;

/// The layout; PFNs unless stated otherwise.
#[derive(Debug)]
pub struct Plan {
    /// The virtual address of PFN 0.
    pub virt_base: u64,
    /// The number of pages of the image.
    pub image_pages: u64,
    /// The first page of each module.
    pub modules: Vec<u64>,
    /// The byte offset of the module list from PFN 0.
    pub module_list: u64,
    /// The first page of the P2M.
    pub p2m: u64,
    /// The page of start_info.
    pub start_info: u64,
    /// The first page of the page tables: the L4, the L3, the L2s, the L1s.
    pub tables: u64,
    /// The number of L2 tables.
    pub l2s: u64,
    /// The number of L1 tables.
    pub l1s: u64,
    /// The first page behind the stack.
    pub stack_end: u64,
    /// The number of pages that are mapped initially.
    pub mapped: u64,
    /// The number of pages of the domain.
    pub pages: u64,
}

/// The number of pages that hold `bytes`.
const fn pages_of(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE)
}

impl Plan {
    /// Lays out an image and modules, with up to `affordable` pages beside the modules.
    ///
    /// # Errors
    /// A sentence, if the modules are too large.
    pub fn new(
        image: &Image<'_>,
        modules: &[Module<'_>],
        affordable: u64,
    ) -> Result<Self, &'static str> {
        let mut at = image.pages;
        let mut starts = Vec::with_capacity(modules.len());
        for module in modules {
            starts.push(at);
            at += pages_of(module.range.end - module.range.start);
        }
        let modules_end = at;
        let texts: usize = modules
            .iter()
            .map(|m| m.cmdline.len() + 1 + size_of::<BootModule>())
            .sum();
        at += pages_of(texts as u64);
        let module_pages = modules_end - image.pages;
        // Includes enough for what follows: the P2M and the page tables grow with what they describe.
        let pages = (affordable + module_pages).max(at + MIN_FREE + at / 128);
        let p2m = at;
        let start_info = p2m + pages_of(pages * 8);
        let tables = start_info + 1;
        let mut plan = Self {
            virt_base: image.virt_base,
            image_pages: image.pages,
            modules: starts,
            module_list: modules_end * PAGE,
            p2m,
            start_info,
            tables,
            l2s: 0,
            l1s: 0,
            stack_end: 0,
            mapped: 0,
            pages,
        };
        plan.fit_tables();
        let end = plan
            .mapped
            .checked_mul(PAGE)
            .and_then(|bytes| plan.virt_base.checked_add(bytes));
        let same_l3 =
            end.is_some_and(|end| Vaddr(end - 1).index(4) == Vaddr(plan.virt_base).index(4));
        if !same_l3 {
            return Err("GRUB's modules are too large to be mapped by the boot domain");
        }
        Ok(plan)
    }

    /// Computes the number of tables. They also map themselves, so it grows until they suffice.
    fn fit_tables(&mut self) {
        loop {
            let stack = self.tables + self.table_count();
            self.stack_end = stack + STACK_PAGES;
            self.mapped = (self.stack_end + SLACK_PAGES).next_multiple_of(ROUND);
            self.pages = self.pages.max(self.mapped);
            let (l1s, l2s) = (self.mapped.div_ceil(512), self.tables_over(30));
            if (l1s, l2s) == (self.l1s, self.l2s) {
                return;
            }
            (self.l1s, self.l2s) = (l1s, l2s);
        }
    }

    /// The number of tables, each covering 2^`shift` bytes, that together cover the mapped memory.
    const fn tables_over(&self, shift: u32) -> u64 {
        let last = self.virt_base.wrapping_add(self.mapped * PAGE - 1);
        (last >> shift) - (self.virt_base >> shift) + 1
    }

    /// The number of all page tables.
    pub const fn table_count(&self) -> u64 {
        2 + self.l2s + self.l1s
    }

    /// The virtual address of a page.
    pub const fn va_of(&self, pfn: u64) -> u64 {
        self.virt_base.wrapping_add(pfn * PAGE)
    }

    /// The page at a virtual address.
    pub fn pfn_of(&self, va: u64) -> Result<u64, &'static str> {
        let pfn = va.checked_sub(self.virt_base).map(|bytes| bytes / PAGE);
        pfn.filter(|pfn| *pfn < self.mapped)
            .ok_or("an address outside of the boot domain")
    }

    /// Whether a page is one of the page tables, and thus mapped read-only.
    pub fn is_table(&self, pfn: u64) -> bool {
        (self.tables..self.tables + self.table_count()).contains(&pfn)
    }
}
