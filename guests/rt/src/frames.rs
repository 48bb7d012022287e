//! The domain's frames by number: pseudo-physical (P2M), machine (M2P), and the addresses of the direct mapping.
//!
//! Pseudo-physical frame n is mapped at `VIRT_BASE + n * 4096`.

#![expect(unsafe_code, reason = "reads the P2M and the M2P")]

use guest_pv_abi::arch_x86::MACH2PHYS_VIRT_START;
use guest_pv_abi::memory::{MemoryReservation, XENMEM_DECREASE_RESERVATION};
use guest_pv_abi::xen::DOMID_SELF;
use guest_pv_abi::{GuestHandle, Long};

use crate::arch::from_long;
use crate::hyper;
use crate::info::start_info;

/// Size of a page in bytes.
pub const PAGE_BYTES: usize = guest_pv_abi::PAGE_SIZE;

/// Where frame 0 is mapped (`XEN_ELFNOTE_VIRT_BASE`).
pub const VIRT_BASE: u64 = crate::arch::VIRT_BASE;

/// Frames that one hypercall requests or returns.
pub(crate) const BATCH: usize = 256;

/// The virtual address of a frame in the direct mapping.
#[must_use]
pub const fn direct(pfn: u64) -> u64 {
    VIRT_BASE + (pfn << guest_pv_abi::PAGE_SHIFT)
}

/// The pseudo-physical frame at an address in the direct mapping.
#[must_use]
pub const fn pfn_of(address: u64) -> u64 {
    address.wrapping_sub(VIRT_BASE) >> guest_pv_abi::PAGE_SHIFT
}

/// The machine frame of a pseudo-physical frame, from the builder's P2M list; `None` if the domain lacks it.
#[must_use]
pub fn mfn_of(pfn: u64) -> Option<u64> {
    let info = start_info();
    if pfn >= from_long(info.nr_pages) {
        return None;
    }
    let list = core::ptr::with_exposed_provenance::<Long>(info.mfn_list as usize);
    // SAFETY: the list has `nr_pages` entries.
    Some(from_long(unsafe { list.add(pfn as usize).read_volatile() }))
}

/// Records a new machine frame for a pseudo-physical frame (after an exchange or a transfer). The caller
/// must update the M2P and mappings.
pub fn set_mfn_of(pfn: u64, mfn: u64) {
    let info = start_info();
    assert!(
        pfn < from_long(info.nr_pages),
        "frame {pfn:#x} is not the domain's"
    );
    let list = core::ptr::with_exposed_provenance_mut::<Long>(info.mfn_list as usize);
    // SAFETY: as in `mfn_of`; the list is the domain's own memory.
    unsafe { list.add(pfn as usize).write_volatile(mfn as Long) }
}

/// The pseudo-physical frame of a machine frame, from the hypervisor's M2P table. The result is meaningful only for
/// this domain's frames; callers check it with [`mfn_of`] where that matters.
#[must_use]
pub fn pfn_of_mfn(mfn: u64) -> u64 {
    let table = core::ptr::with_exposed_provenance::<Long>(MACH2PHYS_VIRT_START as usize);
    // SAFETY: the hypervisor maps the table read-only; frames of this domain are inside it.
    from_long(unsafe { table.add(mfn as usize).read_volatile() })
}

/// The argument of a hypercall that requests or returns these frames.
pub(crate) fn reservation(frames: &mut [Long]) -> MemoryReservation {
    MemoryReservation {
        nr_extents: frames.len() as Long,
        extent_start: GuestHandle::of_mut(frames),
        domid: DOMID_SELF,
        ..MemoryReservation::default()
    }
}

/// Returns unmapped frames to the hypervisor.
pub(crate) fn give_back(frames: &mut [Long]) {
    if !frames.is_empty() {
        let mut request = reservation(frames);
        // If this fails, the domain loses the use of the frames, which does no other harm.
        let _ = hyper::memory_op(XENMEM_DECREASE_RESERVATION, &mut request);
    }
}
