//! The real machine's memory under the rules, and the frames that domains ask for.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{Charge, DomainPages, Memory, NoRoom, Types, registered};
use crate::kit::lock::wait_step;
use crate::kit::{DomId, Mfn, Once};
use crate::mm::alloc::{self as frames_alloc, Where};
use crate::mm::layout::{MASTER, PERDOMAIN_SLOT};
use crate::mm::{Frame, SharedPage, frames, m2p, stale};

/// What the rules ask about domains; `domain` answers.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    /// Whether a domain may map a frame that is not RAM.
    pub may_map_io: fn(DomId, Mfn) -> bool,
    /// Whether a domain has device rights.
    pub has_device_rights: fn(DomId) -> bool,
    /// The last frame of a dying domain has gone. May come twice.
    pub emptied: fn(DomId),
    /// Whether something more urgent waits for this CPU.
    pub preempt: fn() -> bool,
}

static RIGHTS: Once<Rights> = Once::new();

/// Gives the answers; once, at boot. Before that nobody has any right.
pub fn set_rights(rights: Rights) {
    RIGHTS.call_once(|| rights);
}

/// The real machine.
#[derive(Debug)]
pub struct Machine;

static MACHINE: Types<Machine> = Types(Machine);

/// The rules over the real machine's memory.
pub fn machine() -> &'static Types<Machine> {
    &MACHINE
}

impl Memory for Machine {
    #[inline]
    fn frame(&self, mfn: Mfn) -> Option<&Frame> {
        frames().get(mfn)
    }
    #[inline]
    fn words(&self, mfn: Mfn) -> Option<&[AtomicU64; 512]> {
        SharedPage::new(mfn).map(|page| page.words())
    }
    fn free(&self, mfn: Mfn) {
        m2p::clear(mfn);
        frames_alloc::free(mfn, 0);
    }
    fn domain(&self, id: DomId) -> Option<Arc<DomainPages>> {
        registered(id)
    }
    fn emptied(&self, id: DomId) {
        if let Some(rights) = RIGHTS.get() {
            (rights.emptied)(id);
        }
    }
    fn own_slot(&self, owner: DomId, slot: usize) -> u64 {
        if slot == PERDOMAIN_SLOT {
            return registered(owner).map_or(0, |pages| pages.own_slot());
        }
        let master = MASTER.get().and_then(|mfn| SharedPage::new(*mfn));
        master
            .and_then(|page| page.u64(slot * 8))
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }
    fn may_map_io(&self, domain: DomId, mfn: Mfn) -> bool {
        RIGHTS
            .get()
            .is_some_and(|rights| (rights.may_map_io)(domain, mfn))
    }
    fn has_device_rights(&self, domain: DomId) -> bool {
        RIGHTS
            .get()
            .is_some_and(|rights| (rights.has_device_rights)(domain))
    }
    #[inline]
    fn stamp(&self) -> u32 {
        stale::now()
    }
    #[inline]
    fn flush_stale(&self, stamp: u32) {
        stale::flush(stamp);
    }
    #[inline]
    fn preempt(&self) -> bool {
        RIGHTS.get().is_some_and(|rights| (rights.preempt)())
    }
    #[inline]
    fn wait(&self) {
        wait_step();
    }
}

impl Types<Machine> {
    /// Allocates a block of frames for a domain.
    pub fn allocate(
        &self,
        pages: &DomainPages,
        order: u32,
        place: Where,
        charge: Charge,
    ) -> Result<Mfn, NoRoom> {
        if !crate::mm::heap::can_grow(4096 << order.min(frames_alloc::MAX_ORDER)) {
            return Err(NoRoom::NoMemory);
        }
        let first = frames_alloc::alloc_order(order, place).ok_or(NoRoom::NoMemory)?;
        self.assign(pages, first, order, charge)
            .inspect_err(|_| frames_alloc::free(first, order))?;
        Ok(first)
    }
}
