//! The machine-to-physical table maps each machine frame to its owner's number for it. Guests read it in place,
//! read-only; the hypervisor never relies on its contents.

use crate::kit::atomic::Ordering;

use crate::kit::{Mfn, Pfn};

/// The entry of a frame without a number (INVALID_M2P_ENTRY).
pub const INVALID: u64 = u64::MAX;

/// The owner's number for `mfn`, if it has one.
#[cfg(test)]
pub fn get(mfn: Mfn) -> Option<Pfn> {
    crate::mm::frame::frames().get(mfn)?;
    let entry = slot(mfn)?.load(Ordering::Relaxed);
    (entry != INVALID).then_some(Pfn(entry))
}

/// Sets the owner's number for `mfn`. The caller holds the frame, or has not waited since it saw that the frame
/// belonged to that owner. This CPU has then not flushed since, so the frame can't have become another domain's.
pub fn set(mfn: Mfn, pfn: Pfn) {
    write(mfn, pfn.0);
}

/// Invalidates the number of `mfn`.
pub fn clear(mfn: Mfn) {
    write(mfn, INVALID);
}

fn write(mfn: Mfn, entry: u64) {
    if let Some(slot) = slot(mfn) {
        slot.store(entry, Ordering::Relaxed);
    }
}

#[cfg(target_os = "none")]
#[expect(
    unsafe_code,
    reason = "the table is memory that boot maps at a fixed address"
)]
fn slot(mfn: Mfn) -> Option<&'static crate::kit::atomic::AtomicU64> {
    // The hypervisor writes through its direct map, because the guests' view of the table is read-only.
    let table = TABLE.get()?;
    let extent = table.get((mfn.0 / EXTENT_FRAMES) as usize)?;
    if extent.0 == 0 {
        return None;
    }
    let at = super::directmap::ptr(*extent).cast::<crate::kit::atomic::AtomicU64>();
    // SAFETY: an extent is 2 MiB of RAM that boot set aside for the table permanently. It is only accessed as
    // atomics.
    Some(unsafe { &*at.add((mfn.0 % EXTENT_FRAMES) as usize) })
}

#[cfg(not(target_os = "none"))]
fn slot(mfn: Mfn) -> Option<&'static crate::kit::atomic::AtomicU64> {
    super::host::arena().m2p(mfn)
}

/// Number of frames that one 2 MiB extent of the table describes.
pub const EXTENT_FRAMES: u64 = (2 << 20) / 8;

/// The first frame of each 2 MiB extent; 0 for a gap in the machine's memory.
static TABLE: crate::kit::Once<alloc::vec::Vec<Mfn>> = crate::kit::Once::new();

/// Sets the table's extents, in order: the first frame of each 2 MiB, filled with [`INVALID`]; `Mfn(0)` for a gap.
/// Boot has mapped them at [`super::layout::M2P`], read-only for guests.
pub fn set_extents(extents: alloc::vec::Vec<Mfn>) {
    TABLE.call_once(|| extents);
}

/// The table's extents, as XENMEM_machphys_mfn_list returns them.
pub fn extents() -> &'static [Mfn] {
    TABLE.get().map_or(&[], |t| t.as_slice())
}
