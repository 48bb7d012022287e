//! What the rules need of the machine, as a trait.

use crate::kit::atomic::AtomicU64;
use alloc::sync::Arc;

use super::l1tf::SafeAddresses;
use super::{DomainPages, PageType};
use crate::kit::{DomId, Mfn};
use crate::mm::Frame;
use crate::mm::alloc::Past;
use crate::mm::frame::State;

/// How a domain may map a frame that is not RAM. Greater values permit more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IoAccess {
    /// It may not map the frame.
    Nothing,
    /// It may read the frame. A writable entry is stored as read-only.
    Read,
    /// It may map the frame in any way.
    All,
}

/// Frames, their contents, and the few functions that the rules need of the rest of the core.
pub trait Memory {
    /// Returns the entry of a frame in the frame table. `None` if the frame is not RAM.
    fn frame(&self, mfn: Mfn) -> Option<&Frame>;
    /// Returns the entry of a frame, whether the frame is RAM or not. The entry of one that is not RAM
    /// has no references.
    fn entry(&self, mfn: Mfn) -> Option<&Frame>;
    /// Returns the contents of a frame of RAM that is in use, as page-table entries.
    fn words(&self, mfn: Mfn) -> Option<&[AtomicU64; 512]>;
    /// Like [`Self::words`], for callers that have just read the frame's state. `None` if the frame has
    /// no type. Only frames of domains have one, and a frame that loses it gets no other use before
    /// this CPU flushes.
    fn words_of(&self, mfn: Mfn, seen: State) -> Option<&[AtomicU64; 512]>;
    /// Frees a run of frames without references, which contain data of `past`.
    fn free(&self, first: Mfn, count: u64, past: Past);
    /// Returns the frames of a domain by its id, until the last of them is gone.
    fn domain(&self, id: DomId) -> Option<Arc<DomainPages>>;
    /// Called when the last frame of a dying domain is gone, so that nothing is left of it. May be called twice.
    fn emptied(&self, id: DomId);
    /// Called when a read-only mapping of one of `owner`'s pages of descriptors is gone. An LDT may lie there.
    /// When this returns, no window maps a page of an LDT that is no longer in its place. All such mappings end
    /// at the two callers of this function, whichever operation removes them: a hypercall, a store or a grant; or
    /// the end of a table, which calls it once.
    fn segdesc_unmapped(&self, owner: DomId);
    /// Returns the hypervisor's entry for one of its own slots in a table of `owner` of type `ty`.
    fn own_slot(&self, owner: DomId, ty: PageType, slot: usize) -> u64;
    /// Returns how `domain` may map frame `mfn`, which is not RAM.
    fn io_access(&self, domain: DomId, mfn: Mfn) -> IoAccess;
    /// Whether `domain` has device rights, so that its mappings may choose how they are cached.
    fn has_device_rights(&self, domain: DomId) -> bool;
    /// Returns the addresses that entries of `domain`'s tables may hold while they are not present, if there is
    /// such a rule.
    fn safe_addresses(&self, domain: DomId) -> Option<SafeAddresses>;
    /// Returns the stamp for a frame whose last mapping goes now.
    fn stamp(&self) -> u32;
    /// Records for the audit that an entry which named the frame is gone, before its reference is dropped.
    #[cfg(feature = "audit")]
    fn note_unmapped(&self, _mfn: Mfn, _frame: &Frame, _sort: crate::mm::stale::audit::Sort) {}
    /// Returns when no CPU holds a translation of a frame of `owner` that dates from `stamp` or earlier.
    /// Translations of grant mappings are excepted: these are flushed before their references are dropped.
    /// [`DomId::INVALID`] stands for any owner.
    fn flush_stale(&self, owner: DomId, stamp: u32);
    /// Whether this CPU has more urgent work.
    fn preempt(&self) -> bool;
    /// Waits for another CPU, one step.
    fn wait(&self);
}
