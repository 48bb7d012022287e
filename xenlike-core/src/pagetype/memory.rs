//! What the rules need of the machine.

use crate::kit::atomic::AtomicU64;
use alloc::sync::Arc;

use super::DomainPages;
use super::l1tf::SafeAddresses;
use crate::kit::{DomId, Mfn};
use crate::mm::Frame;
use crate::mm::alloc::Past;
use crate::mm::frame::State;

/// How a domain may map a frame that is not RAM. The more, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IoAccess {
    /// Not at all.
    Nothing,
    /// To read; an entry that would allow writes is stored without.
    Read,
    /// As it likes.
    All,
}

/// Frames, their contents, and the few things that the rules ask of the rest of the core.
pub trait Memory {
    /// What is known of a frame; nothing if it is not RAM.
    fn frame(&self, mfn: Mfn) -> Option<&Frame>;
    /// The entry of a frame, if there is one, RAM or not: one that is not has no references.
    fn entry(&self, mfn: Mfn) -> Option<&Frame>;
    /// The contents of a frame of RAM in use, as page table entries.
    fn words(&self, mfn: Mfn) -> Option<&[AtomicU64; 512]>;
    /// As [`Self::words`], for who has seen the frame's state just now; nothing if it has no type. Only
    /// a domain's frames have one, and those that lose it get no other use before this CPU flushes.
    fn words_of(&self, mfn: Mfn, seen: State) -> Option<&[AtomicU64; 512]>;
    /// Gives back frames in a row that nothing refers to any more, with the contents of `past`.
    fn free(&self, first: Mfn, count: u64, past: Past);
    /// What a domain has, by its id; until the last of its frames is gone.
    fn domain(&self, id: DomId) -> Option<Arc<DomainPages>>;
    /// The last frame of a dying domain has gone. May come twice.
    fn emptied(&self, id: DomId);
    /// A read-only mapping of one of `owner`'s pages of descriptors has gone. Perhaps an LDT is mapped there:
    /// when this returns, no window onto one has a page that is no longer in its place. Told here, where
    /// every such mapping goes, whoever takes it away: a call, a store, a grant, a table's end.
    fn segdesc_unmapped(&self, owner: DomId);
    /// The hypervisor's entry for a slot of its own in an L4 that `owner` makes.
    fn own_slot(&self, owner: DomId, slot: usize) -> u64;
    /// How `domain` may map the frame `mfn`, which is not RAM.
    fn io_access(&self, domain: DomId, mfn: Mfn) -> IoAccess;
    /// Whether `domain` has device rights, so that its mappings may choose how they are cached.
    fn has_device_rights(&self, domain: DomId) -> bool;
    /// What entries of `domain`'s tables that are not present may name, where that matters.
    fn safe_addresses(&self, domain: DomId) -> Option<SafeAddresses>;
    /// The stamp for a frame whose last mapping goes now.
    fn stamp(&self) -> u32;
    /// An entry that named the frame has gone, its reference has not yet: the audit notes when.
    #[cfg(feature = "audit")]
    fn note_unmapped(&self, _mfn: Mfn, _frame: &Frame, _sort: crate::mm::stale::audit::Sort) {}
    /// Comes back when no CPU holds a translation from `stamp` or earlier of a frame of `owner`'s, other
    /// than by a grant: those are flushed before their references go. [`DomId::INVALID`] is any owner.
    fn flush_stale(&self, owner: DomId, stamp: u32);
    /// Whether something more urgent waits for this CPU.
    fn preempt(&self) -> bool;
    /// One step of waiting for another CPU.
    fn wait(&self);
}
