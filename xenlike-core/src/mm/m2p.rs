//! The machine-to-physical tables map each machine frame to its owner's number for it. Guests read them in place,
//! read-only; the hypervisor never relies on their contents. The entries of the table for wide guests have 8 bytes, those
//! of the table for narrow guests 4 bytes. The latter describes only frames below [`NARROW_M2P_FRAMES`].

use alloc::vec::Vec;

use super::layout::{NARROW_FIRST_SLOT, NARROW_M2P_FRAMES};
use crate::arch::paging::{RODATA, pte};
use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::kit::{Mfn, Once, Pfn};

/// The entry of a frame without a number (INVALID_M2P_ENTRY). A narrow table has its lower half.
pub const INVALID: u64 = u64::MAX;

/// The owner's number for `mfn`, if it has one.
#[cfg(test)]
pub fn get(mfn: Mfn) -> Option<Pfn> {
    crate::mm::frame::frames().get(mfn)?;
    let entry = slot(mfn)?.load(Ordering::Relaxed);
    let narrow = narrow_slot(mfn)?.load(Ordering::Relaxed);
    assert_eq!(narrow, entry as u32, "the two tables differ");
    (entry != INVALID).then_some(Pfn(entry))
}

/// Sets the owner's number for `mfn`, a frame of RAM. The caller holds the frame, or has not waited since it saw that
/// the frame belonged to that owner. This CPU has then not flushed since, so the frame can't have become another domain's.
#[inline]
pub fn set(mfn: Mfn, pfn: Pfn) {
    write(mfn, pfn.0);
}

/// Invalidates the number of `mfn`, a frame of RAM.
#[inline]
pub fn clear(mfn: Mfn) {
    write(mfn, INVALID);
}

#[inline]
fn write(mfn: Mfn, entry: u64) {
    if let Some(slot) = slot(mfn) {
        slot.store(entry, Ordering::Relaxed);
    }
    if let Some(slot) = narrow_slot(mfn) {
        slot.store(entry as u32, Ordering::Relaxed);
    }
}

/// The number after the last frame that each table describes; 0 until boot has mapped the tables.
static END: AtomicU64 = AtomicU64::new(0);
static NARROW_END: AtomicU64 = AtomicU64::new(0);

#[cfg(target_os = "none")]
mod own {
    //! The hypervisor writes the tables through mappings of its own, because those of the guests are read-only.
    #![expect(
        unsafe_code,
        reason = "the tables are memory that boot maps at a fixed address"
    )]
    use super::{AtomicU32, AtomicU64, END, Mfn, NARROW_END, Ordering};
    use crate::kit::nospec::cut_to_32;
    use crate::mm::layout::{M2P_OWN, NARROW_M2P_OWN};

    #[inline]
    pub(super) fn slot(mfn: Mfn) -> Option<&'static AtomicU64> {
        (mfn.0 < END.load(Ordering::Relaxed)).then(|| {
            // Truncated to 32 bits, the number can't reach beyond the table's part of the address space, even if the
            // CPU speculates that it is in range.
            let at = (M2P_OWN + cut_to_32(mfn.0) * 8) as *const AtomicU64;
            // SAFETY: boot has mapped the table, for good, wherever there is RAM below its end; callers pass frames of
            // RAM. The memory is only accessed as atomics.
            unsafe { &*at }
        })
    }

    #[inline]
    pub(super) fn narrow_slot(mfn: Mfn) -> Option<&'static AtomicU32> {
        (mfn.0 < NARROW_END.load(Ordering::Relaxed)).then(|| {
            let at = (NARROW_M2P_OWN + cut_to_32(mfn.0) * 4) as *const AtomicU32;
            // SAFETY: as above.
            unsafe { &*at }
        })
    }
}

#[cfg(not(target_os = "none"))]
mod own {
    use super::{AtomicU32, AtomicU64, Mfn};
    use crate::mm::host::arena;

    pub(super) fn slot(mfn: Mfn) -> Option<&'static AtomicU64> {
        arena().m2p(mfn)
    }
    pub(super) fn narrow_slot(mfn: Mfn) -> Option<&'static AtomicU32> {
        arena().narrow_m2p(mfn)
    }
}

use own::{narrow_slot, slot};

/// The number of frames that 2 MiB of the table for wide guests describe.
pub const EXTENT_FRAMES: u64 = (2 << 20) / 8;
/// The number of frames that 2 MiB of the table for narrow guests describe.
pub const NARROW_EXTENT_FRAMES: u64 = (2 << 20) / 4;

/// The first frame of each 2 MiB of a table, in order, filled with [`INVALID`]; `Mfn(0)` for a gap in the machine's memory.
type Extents = Vec<Mfn>;

static TABLE: Once<Extents> = Once::new();
static NARROW_TABLE: Once<Extents> = Once::new();

/// Sets the tables' extents, and the number after the last frame of RAM. Boot has mapped them at
/// [`super::layout::M2P_OWN`], and the first table also at [`super::layout::M2P`], read-only for guests.
pub fn set_extents(wide: Extents, narrow: Extents, end: Mfn) {
    TABLE.call_once(|| wide);
    NARROW_TABLE.call_once(|| narrow);
    END.store(end.0, Ordering::Release);
    NARROW_END.store(end.0.min(NARROW_M2P_FRAMES), Ordering::Release);
}

/// The extents of the table for wide guests.
pub fn extents() -> &'static [Mfn] {
    TABLE.get().map_or(&[], Vec::as_slice)
}

/// The extents of the table for narrow guests.
pub fn narrow_extents() -> &'static [Mfn] {
    NARROW_TABLE.get().map_or(&[], Vec::as_slice)
}

/// The extents as XENMEM_machphys_mfn_list returns them. A gap has the frames of the extent before it, as on Xen, since
/// toolstacks map the whole list at once, which a frame that isn't the table's would make fail.
pub fn without_gaps(extents: &[Mfn]) -> impl Iterator<Item = Mfn> {
    extents.iter().scan(Mfn(0), |last, extent| {
        if extent.0 != 0 {
            *last = *extent;
        }
        Some(*last)
    })
}

/// The hypervisor's entry `slot` in the L2 of a narrow guest's last GiB. It maps an extent of the table, read-only and for
/// the guest's kernel alone, as on Xen; after the table, nothing.
pub fn narrow_entry(slot: usize) -> u64 {
    let extent = slot.checked_sub(NARROW_FIRST_SLOT);
    match extent.and_then(|n| narrow_extents().get(n)) {
        Some(extent) if extent.0 != 0 => extent.maddr().0 | RODATA | pte::PSE,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_listed_as_the_extent_before() {
        let extents = [0x200, 0x400, 0, 0, 0x600, 0].map(Mfn);
        let listed: Vec<u64> = without_gaps(&extents).map(|extent| extent.0).collect();
        assert_eq!(listed, [0x200, 0x400, 0x400, 0x400, 0x600, 0x600]);
    }
}
