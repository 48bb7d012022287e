//! When each frame last lost a mapping of each kind, and to which domain it belonged then. Test builds record
//! this at every mapping that goes, not only the last one, besides the stamps in the frame table. So the audit
//! can check whether a CPU may still hold a translation that the frame's present use forbids.

use crate::kit::atomic::{AtomicU64, Ordering};
use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::arch::tlb::{self, Stamp};
use crate::kit::{CpuId, DomId, Mfn, Once};
use crate::mm::Frame;
use crate::mm::alloc::Past;

/// The kind of an entry that has gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sort {
    /// An L1 entry that allowed writes.
    Writable = 0,
    /// An L1 entry that did not allow writes.
    ReadOnly = 1,
    /// An entry that named the frame as a page table.
    Table = 2,
}

impl Sort {
    /// All kinds of entries.
    pub const ALL: [Self; 3] = [Self::Writable, Self::ReadOnly, Self::Table];
}

/// For each frame and kind: the stamp in the lower half, the owner's id plus one in the upper half; 0 until
/// a mapping goes.
type Notes = Box<[[AtomicU64; 3]]>;

static NOTES: Once<Option<Notes>> = Once::new();

/// Allocates room for the frames below `end`. Called once. Without memory, nothing is recorded.
pub fn init(end: Mfn) {
    NOTES.call_once(|| {
        let mut notes = Vec::new();
        notes.try_reserve_exact(end.0 as usize).ok()?;
        notes.resize_with(end.0 as usize, || [const { AtomicU64::new(0) }; 3]);
        Some(notes.into_boxed_slice())
    });
}

fn note_of(mfn: Mfn, sort: Sort) -> Option<&'static AtomicU64> {
    let notes = NOTES.get()?.as_ref()?;
    notes.get(usize::try_from(mfn.0).ok()?)?.get(sort as usize)
}

/// Records that an entry of this kind has gone, before its reference to the frame is dropped. So a CPU that
/// finds the frame without references finds this record.
pub fn note(mfn: Mfn, frame: &Frame, sort: Sort) {
    let Some(note) = note_of(mfn, sort) else {
        return;
    };
    // The boot domain's frames may become domain 0's, so both have the same number here.
    let owner = match frame.owner() {
        DomId::BOOT => DomId::DOM0,
        owner => owner,
    };
    let new = (u64::from(owner.0) + 1) << 32 | u64::from(tlb::now().0);
    // Another CPU may have recorded a later time already.
    let newer = |old: u64| (old >> 32 != new >> 32 || old < new).then_some(new);
    let _ = note.fetch_update(Ordering::SeqCst, Ordering::SeqCst, newer);
}

/// Returns the domain that owned the frame when its last mapping of this kind went, and a CPU that may still
/// use that mapping. `past` returns the number by which CPUs know a domain.
pub fn stale_on(mfn: Mfn, sort: Sort, past: impl Fn(DomId) -> Past) -> Option<(DomId, CpuId)> {
    let note = note_of(mfn, sort)?.load(Ordering::SeqCst);
    let owner = (note >> 32).checked_sub(1)?;
    let owner = DomId(owner as u16);
    let stale = tlb::stale_cpus(Stamp(note as u32));
    let cpu = tlb::holders(stale, past(owner).number()).iter().next()?;
    Some((owner, cpu))
}
