//! The boot domain's frames. Modules stay in the frames into which GRUB loaded them; the other frames are allocated.

use crate::kit::atomic::Ordering;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use super::plan::Plan;
use super::{Module, Range, read_machine};
use crate::arch::paging::pte;
use crate::domain::Domain;
use crate::kit::{DomId, Maddr, Mfn, PAGE_SIZE, Pfn, Vaddr};
use crate::mm::alloc::{Where, free_frames};
use crate::mm::frame::Kind;
use crate::mm::{SharedPage, frames, m2p};
use crate::pagetype::{Charge, machine};

const NO_MEMORY: &str = "there is too little memory for the boot domain";
/// The number of pages that it gets beside the modules: at least the first number if the machine can spare them, at
/// most the second. It allocates frames from outside for large things (an unpacked kernel) while it needs them. Each
/// page that it has from the start must be scrubbed first, which takes most of the time until it runs.
const USUAL_PAGES: RangeInclusive<u64> = 16 << 8..=192 << 8;
/// It gets the free memory divided by this number, which suffices to serve all guests that fit: half a MiB for 16 MiB.
const SHARE: u64 = 32;
/// The order of the blocks in which memory is allocated while there are any: 2 MiB.
const BLOCK_ORDER: u32 = 9;
/// The first MiB is never used, because firmware and the start-up code of other CPUs live there.
const LOW_FRAMES: u64 = 256;

const LINK: u64 = pte::P | pte::RW | pte::US | pte::A | pte::D;
const READ_ONLY: u64 = pte::P | pte::US | pte::A | pte::D;

/// The number of pages that it gets beside the modules: never more than a quarter of the free memory.
pub fn affordable_pages() -> u64 {
    let free = free_frames();
    let usual = (free / SHARE).clamp(*USUAL_PAGES.start(), *USUAL_PAGES.end());
    usual.min(free / 4)
}

/// The frames of the boot domain, by PFN.
pub struct Memory<'a> {
    dom: &'a Domain,
    frames: Vec<Mfn>,
}

impl<'a> Memory<'a> {
    /// Makes an empty list with room for the planned number of frames.
    pub fn new(dom: &'a Domain, plan: &Plan) -> Result<Self, &'static str> {
        let mut frames = Vec::new();
        frames
            .try_reserve_exact(plan.pages as usize)
            .map_err(|_| NO_MEMORY)?;
        Ok(Self { dom, frames })
    }

    /// Allocates or takes over all frames, in the order of their PFNs.
    pub fn fill(
        &mut self,
        plan: &Plan,
        modules: &[Module<'_>],
        occupied: &[Range],
    ) -> Result<(), &'static str> {
        self.add_new(plan.image_pages)?;
        for module in modules {
            self.add_module(module, occupied)?;
        }
        self.add_new(plan.pages.saturating_sub(self.frames.len() as u64))?;
        for (pfn, mfn) in self.frames.iter().enumerate() {
            m2p::set(*mfn, Pfn(pfn as u64));
        }
        Ok(())
    }

    fn add_new(&mut self, mut count: u64) -> Result<(), &'static str> {
        let get = |order| machine().allocate(&self.dom.pages, order, Where::ANY, Charge::Counted);
        while count > 0 {
            let order = if count >= 1 << BLOCK_ORDER {
                BLOCK_ORDER
            } else {
                0
            };
            let (first, order) = match get(order) {
                Ok(first) => (first, order),
                Err(_) => (get(0).map_err(|_| NO_MEMORY)?, 0),
            };
            self.frames.extend((0..1 << order).map(|n| first.add(n)));
            count -= 1 << order;
        }
        Ok(())
    }

    /// Adds a module's pages: taken over as they lie, or copied where a page contains other things too.
    fn add_module(&mut self, module: &Module<'_>, occupied: &[Range]) -> Result<(), &'static str> {
        let mut at = module.range.start;
        while at < module.range.end {
            let bytes = (module.range.end - at).min(PAGE_SIZE as u64);
            let mfn = Maddr(at).mfn();
            if bytes == PAGE_SIZE as u64 && stands_alone(at, occupied) {
                machine()
                    .assign(&self.dom.pages, mfn, 0, Charge::Counted)
                    .map_err(|_| NO_MEMORY)?;
                self.frames.push(mfn);
            } else {
                self.add_copy(Maddr(at), bytes as usize)?;
            }
            at += bytes;
        }
        Ok(())
    }

    fn add_copy(&mut self, mut from: Maddr, mut bytes: usize) -> Result<(), &'static str> {
        let pfn = self.frames.len() as u64;
        self.add_new(1)?;
        let page = self.page(pfn)?;
        let mut to = 0;
        let mut piece = [0; 256];
        while bytes > 0 {
            let count = bytes.min(piece.len()).min(PAGE_SIZE - from.offset());
            let piece = piece.get_mut(..count).unwrap_or_default();
            read_machine(from, piece)?;
            page.write(to, piece).ok_or(NO_MEMORY)?;
            (from, to, bytes) = (Maddr(from.0 + count as u64), to + count, bytes - count);
        }
        Ok(())
    }

    /// The frame of a page.
    pub fn frame(&self, pfn: u64) -> Result<Mfn, &'static str> {
        self.frames.get(pfn as usize).copied().ok_or(NO_MEMORY)
    }

    /// Access to the bytes of a page.
    pub fn page(&self, pfn: u64) -> Result<SharedPage, &'static str> {
        SharedPage::new(self.frame(pfn)?).ok_or(NO_MEMORY)
    }

    /// Writes bytes to the domain's memory, from byte `offset` on.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), &'static str> {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let inside = (at % PAGE_SIZE as u64) as usize;
            let (now, later) = rest.split_at(rest.len().min(PAGE_SIZE - inside));
            self.page(at / PAGE_SIZE as u64)?
                .write(inside, now)
                .ok_or(NO_MEMORY)?;
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Writes the P2M, the list of all frame numbers, to the pages from `first` on.
    pub fn write_p2m(&self, first: u64) -> Result<(), &'static str> {
        for (n, mfns) in self.frames.chunks(PAGE_SIZE / 8).enumerate() {
            let page = self.page(first + n as u64)?;
            for (index, mfn) in mfns.iter().enumerate() {
                store(&page, index, mfn.0)?;
            }
        }
        Ok(())
    }

    /// Writes the page tables, which map everything writable except themselves.
    pub fn write_tables(&self, plan: &Plan) -> Result<(), &'static str> {
        let (l3, l2) = (plan.tables + 1, plan.tables + 2);
        let l1 = l2 + plan.l2s;
        self.link(plan.tables, Vaddr(plan.virt_base).index(4), l3)?;
        for n in 0..plan.l2s {
            self.link(l3, Vaddr(plan.virt_base + (n << 30)).index(3), l2 + n)?;
        }
        for n in 0..plan.l1s {
            let va = Vaddr(plan.virt_base + (n << 21));
            let upper = l2 + (va.0 >> 30) - (plan.virt_base >> 30);
            self.link(upper, va.index(2), l1 + n)?;
        }
        for pfn in 0..plan.mapped {
            let flags = if plan.is_table(pfn) { READ_ONLY } else { LINK };
            let page = self.page(l1 + pfn / 512)?;
            store(
                &page,
                (pfn % 512) as usize,
                self.frame(pfn)?.maddr().0 | flags,
            )?;
        }
        Ok(())
    }

    fn link(&self, table: u64, index: usize, to: u64) -> Result<(), &'static str> {
        store(&self.page(table)?, index, self.frame(to)?.maddr().0 | LINK)
    }
}

fn store(page: &SharedPage, index: usize, value: u64) -> Result<(), &'static str> {
    page.u64(index * 8)
        .ok_or(NO_MEMORY)?
        .store(value, Ordering::Relaxed);
    Ok(())
}

/// Whether the page at `at` is RAM that contains only bytes of the module.
fn stands_alone(at: u64, occupied: &[Range]) -> bool {
    let end = at + PAGE_SIZE as u64;
    let shared = occupied.iter().any(|r| r.start < end && at < r.end);
    let mfn = Maddr(at).mfn();
    let kept = frames().get(mfn).is_some_and(|frame| {
        frame.load().kind() == Kind::Used
            && frame.load().refs() == 0
            && frame.owner() == DomId::INVALID
    });
    at.is_multiple_of(PAGE_SIZE as u64) && mfn.0 >= LOW_FRAMES && !shared && kept
}
