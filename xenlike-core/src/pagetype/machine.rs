//! The real machine's memory, for which the rules hold, and the allocation of frames for domains.

use crate::kit::atomic::{AtomicU64, Ordering};
use alloc::sync::Arc;

use guest_pv_abi::Width;

use super::emptied;
use super::l1tf::{self, SafeAddresses};
use super::{Charge, DomainPages, IoAccess, Memory, NoRoom, PageType, Types, registered};
use crate::arch::work;
use crate::kit::lock::wait_step;
use crate::kit::{DomId, Mfn};
use crate::mm::alloc::{self as frames_alloc, Past, Where};
use crate::mm::frame::State;
use crate::mm::layout::{MASTER, PERDOMAIN_SLOT};
use crate::mm::{Frame, SharedPage, device_frames, frames, heap, m2p, stale};

/// Lets a registered domain choose how its mappings of devices' memory are cached.
pub fn give_device_rights(id: DomId) {
    if let Some(pages) = registered(id) {
        pages.give_device_rights();
    }
}

/// The real machine, as an implementation of [`Memory`].
#[derive(Debug)]
pub struct Machine;

static MACHINE: Types<Machine> = Types(Machine);

/// Returns the rules for the real machine's memory.
pub fn machine() -> &'static Types<Machine> {
    &MACHINE
}

impl Memory for Machine {
    #[inline]
    fn frame(&self, mfn: Mfn) -> Option<&Frame> {
        frames().get(mfn)
    }
    #[inline]
    fn entry(&self, mfn: Mfn) -> Option<&Frame> {
        frames().entry(mfn)
    }
    #[inline]
    fn words(&self, mfn: Mfn) -> Option<&[AtomicU64; 512]> {
        SharedPage::new(mfn).map(|page| page.words())
    }
    #[inline]
    fn words_of(&self, mfn: Mfn, seen: State) -> Option<&[AtomicU64; 512]> {
        SharedPage::of_typed(mfn, seen).map(|page| page.words())
    }
    fn free(&self, first: Mfn, count: u64, past: Past) {
        for n in 0..count {
            m2p::clear(first.add(n));
        }
        frames_alloc::free_run(first, count, past);
    }
    fn domain(&self, id: DomId) -> Option<Arc<DomainPages>> {
        registered(id)
    }
    fn emptied(&self, id: DomId) {
        emptied::note(id);
    }
    fn segdesc_unmapped(&self, owner: DomId) {
        if let Some(pages) = registered(owner) {
            pages.drop_ldt_pages();
        }
    }
    fn own_slot(&self, owner: DomId, ty: PageType, slot: usize) -> u64 {
        match ty {
            PageType::L4 => {}
            PageType::L2Last => return m2p::narrow_entry(slot),
            _ => return 0,
        }
        if slot == PERDOMAIN_SLOT {
            return registered(owner).map_or(0, |pages| pages.own_slot());
        }
        let master = MASTER.get().and_then(|mfn| SharedPage::new(*mfn));
        master
            .and_then(|page| page.words().get(slot))
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }
    fn io_access(&self, domain: DomId, mfn: Mfn) -> IoAccess {
        let may = |pages: Arc<DomainPages>| pages.io_memory.lock().contains(mfn.0..=mfn.0);
        if !registered(domain).is_some_and(may) {
            IoAccess::Nothing
        } else if device_frames::is_protected(mfn) {
            IoAccess::Read
        } else {
            IoAccess::All
        }
    }
    fn has_device_rights(&self, domain: DomId) -> bool {
        registered(domain).is_some_and(|pages| pages.has_device_rights())
    }
    fn safe_addresses(&self, domain: DomId) -> Option<SafeAddresses> {
        let rule = l1tf::safe_addresses()?;
        registered(domain)
            .is_none_or(|pages| pages.hides_absent())
            .then_some(rule)
    }
    #[inline]
    fn stamp(&self) -> u32 {
        stale::now()
    }
    #[cfg(feature = "audit")]
    fn note_unmapped(&self, mfn: Mfn, frame: &Frame, sort: stale::audit::Sort) {
        stale::audit::note(mfn, frame, sort);
    }
    #[inline]
    fn flush_stale(&self, owner: DomId, stamp: u32) {
        stale::flush(stamp, || {
            registered(owner).map_or(Past::NOBODY, |it| it.past())
        });
    }
    #[inline]
    fn preempt(&self) -> bool {
        work::preempts()
    }
    #[inline]
    fn wait(&self) {
        wait_step();
    }
}

impl Types<Machine> {
    /// Allocates a block of frames for a domain, at addresses that its kernel can describe.
    pub fn allocate(
        &self,
        pages: &DomainPages,
        order: u32,
        place: Where,
        charge: Charge,
    ) -> Result<Mfn, NoRoom> {
        let leave = heap::frames_to_leave().saturating_add(pages.claimed_by_others());
        let place = match pages.width() {
            Width::Wide => place,
            Width::Narrow => place.and(Where::narrow()),
        };
        let first = frames_alloc::alloc_leaving(leave, order, place, pages.past());
        let first = first.ok_or(NoRoom::NoMemory)?;
        self.assign_fresh(pages, first, order, charge)
            .inspect_err(|_| frames_alloc::free(first, order))?;
        Ok(first)
    }
}
