//! The domain's own memory: P2M and M2P, the shared info page, free pages.
//!
//! Pseudo-physical frame n is mapped at `VIRT_BASE + n * 4096`. The builder maps the kernel, the files
//! that came with it and some spare pages. The domain's other frames are mapped on demand, up to the
//! end of the address space (2 GiB minus the last L1 table's reach), which also limits the heap.

#![expect(unsafe_code, reason = "reads the P2M and M2P, hands out pages")]

use core::sync::atomic::{AtomicU64, Ordering};

use guest_pv_abi::arch_x86::MACH2PHYS_VIRT_START;
use guest_pv_abi::xen::{SharedInfo, UVMF_INVLPG};

use crate::large;
use crate::paging::{self, RAM_FLAGS};
use crate::start::start_info;
use crate::sync::Lock;

/// Size of a page in bytes.
pub const PAGE_BYTES: usize = guest_pv_abi::PAGE_SIZE;

/// Where frame 0 is mapped (`XEN_ELFNOTE_VIRT_BASE`).
pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;

/// Number of frames between `VIRT_BASE` and the end of the address space, without the last L1 table's reach.
const WINDOW_FRAMES: u64 = (1 << 19) - 512;

/// Pages of the image that serve as page tables until other pages are mapped.
const RESERVE_PAGES: usize = 4;

/// A page inside the image.
#[repr(C, align(4096))]
struct Page(core::cell::UnsafeCell<[u8; PAGE_BYTES]>);

// SAFETY: the comment of each static below says how it is used.
unsafe impl Sync for Page {}

/// The shared info frame is mapped at this address; the page behind it is unused.
static SHARED_INFO: Page = Page(core::cell::UnsafeCell::new([0; PAGE_BYTES]));

/// `FreePages` hands out each of these once.
static RESERVE: [Page; RESERVE_PAGES] =
    [const { Page(core::cell::UnsafeCell::new([0; PAGE_BYTES])) }; RESERVE_PAGES];

/// The domain's free frames.
struct FreePages {
    /// First frame that was never handed out; all frames from here to `mapped_end` are mapped and free.
    next: u64,
    /// First frame that is not mapped.
    mapped_end: u64,
    /// End of the domain's frames that fit into the address space.
    end: u64,
    /// Address of the first freed page; each freed page holds the next one's address. 0 ends the list.
    returned: u64,
    /// Number of reserve pages handed out.
    reserve_used: usize,
}

static FREE: Lock<FreePages> = Lock::new(FreePages {
    next: 0,
    mapped_end: 0,
    end: 0,
    returned: 0,
    reserve_used: 0,
});

static HANDED_OUT: AtomicU64 = AtomicU64::new(0);

/// Maps the shared info page and finds the free frames, which follow the builder's pages: the page tables
/// and, usually last, the initial stack.
pub(crate) fn init(builder_stack: u64) {
    let info = start_info();
    // SAFETY: the page at SHARED_INFO is the image's own and used for nothing else.
    let mapped = unsafe {
        let entry = info.shared_info | RAM_FLAGS;
        crate::hyper::update_va_mapping(address_of(&SHARED_INFO), entry, UVMF_INVLPG)
    };
    assert!(
        mapped.is_ok(),
        "the shared info page can't be mapped: {mapped:?}"
    );

    let page = PAGE_BYTES as u64;
    let behind_tables = info.pt_base + info.nr_pt_frames * page;
    let first_free = builder_stack.next_multiple_of(page).max(behind_tables);
    let mut free = FREE.lock();
    free.next = (first_free - VIRT_BASE) / page;
    free.mapped_end = free.next;
    free.end = info.nr_pages.min(WINDOW_FRAMES);
    while free.mapped_end < free.end && paging::entry_of(direct(free.mapped_end)).is_some() {
        free.mapped_end += 1;
    }
}

fn address_of(page: &'static Page) -> u64 {
    core::ptr::from_ref(page).expose_provenance() as u64
}

/// The shared info page. The hypervisor may write it at any time: read its fields with volatile or atomic
/// accesses through raw pointers.
pub(crate) fn shared_info() -> &'static SharedInfo {
    // SAFETY: `init` mapped it there for good; every bit pattern of the type is valid.
    unsafe { &*SHARED_INFO.0.get().cast() }
}

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
    if pfn >= info.nr_pages {
        return None;
    }
    let list = core::ptr::with_exposed_provenance::<u64>(info.mfn_list as usize);
    // SAFETY: the list has `nr_pages` entries.
    Some(unsafe { list.add(pfn as usize).read_volatile() })
}

/// Records a new machine frame for a pseudo-physical frame (after an exchange or a transfer). The caller
/// must update the M2P and mappings.
pub fn set_mfn_of(pfn: u64, mfn: u64) {
    let info = start_info();
    assert!(pfn < info.nr_pages, "frame {pfn:#x} is not the domain's");
    let list = core::ptr::with_exposed_provenance_mut::<u64>(info.mfn_list as usize);
    // SAFETY: as in `mfn_of`; the list is the domain's own memory.
    unsafe { list.add(pfn as usize).write_volatile(mfn) }
}

/// The pseudo-physical frame of a machine frame, from the hypervisor's M2P table. The result is meaningful only for
/// this domain's frames; callers check it with [`mfn_of`] where that matters.
#[must_use]
pub fn pfn_of_mfn(mfn: u64) -> u64 {
    let table = core::ptr::with_exposed_provenance::<u64>(MACH2PHYS_VIRT_START as usize);
    // SAFETY: the hypervisor maps the table read-only; frames of this domain are inside it.
    unsafe { table.add(mfn as usize).read_volatile() }
}

/// Number of pages that were never handed out; freed pages are not among them.
#[must_use]
pub fn untouched_pages() -> u64 {
    let free = FREE.lock();
    free.end.saturating_sub(free.next)
}

/// Number of pages handed out and not freed.
#[must_use]
pub fn used_pages() -> u64 {
    HANDED_OUT.load(Ordering::Relaxed)
}

/// Allocates contiguous pages, not zeroed; `None` when the domain has no more.
#[must_use]
pub fn allocate_pages(pages: usize) -> Option<*mut u8> {
    let mut free = FREE.lock();
    // Mapping more frames may use a page as a table, which moves `next`.
    let wanted = loop {
        let wanted = free.next.checked_add(pages as u64)?;
        if wanted > free.end {
            return None;
        }
        if wanted <= free.mapped_end {
            break wanted;
        }
        map_more(&mut free, wanted)?;
    };
    let start = free.next;
    free.next = wanted;
    HANDED_OUT.fetch_add(pages as u64, Ordering::Relaxed);
    Some(core::ptr::with_exposed_provenance_mut(
        direct(start) as usize
    ))
}

/// Allocates one zeroed page; `None` when the domain has no more.
#[must_use]
pub fn allocate_page() -> Option<*mut u8> {
    let returned = take_returned();
    let page = match returned {
        Some(page) => page,
        None => allocate_pages(1)?,
    };
    // SAFETY: the page is mapped and was just allocated.
    unsafe { page.write_bytes(0, PAGE_BYTES) };
    Some(page)
}

fn take_returned() -> Option<*mut u8> {
    let mut free = FREE.lock();
    if free.returned == 0 {
        return None;
    }
    let page = core::ptr::with_exposed_provenance_mut::<u8>(free.returned as usize);
    // SAFETY: `free_page` stored the next address there.
    free.returned = unsafe { page.cast::<u64>().read() };
    HANDED_OUT.fetch_add(1, Ordering::Relaxed);
    Some(page)
}

/// Frees a page.
///
/// # Safety
/// The page came from [`allocate_page`] or [`allocate_pages`], is mapped writable in the direct mapping,
/// and is no longer used.
pub unsafe fn free_page(page: *mut u8) {
    let mut free = FREE.lock();
    // SAFETY: the caller's promise: the page is mapped and unused.
    unsafe { page.cast::<u64>().write(free.returned) };
    free.returned = page.expose_provenance() as u64;
    HANDED_OUT.fetch_sub(1, Ordering::Relaxed);
}

/// Returns free frames that were never mapped to the hypervisor, except `keep` free frames; returns their number.
pub fn give_back(keep: u64) -> u64 {
    let (first, end) = {
        let mut free = FREE.lock();
        let first = free.mapped_end.max(free.next.saturating_add(keep));
        let (first, end) = (first.min(free.end), free.end);
        free.end = first;
        (first, end)
    };
    for from in (first..end).step_by(large::BATCH) {
        let mut frames = [0; large::BATCH];
        let mut count = 0;
        for pfn in from..end.min(from + large::BATCH as u64) {
            if let Some(frame) = mfn_of(pfn) {
                frames[count] = frame;
                count += 1;
                set_mfn_of(pfn, NO_FRAME);
            }
        }
        large::give_back(&mut frames[..count]);
    }
    end - first
}

/// P2M entry of a frame that the domain no longer has (`INVALID_P2M_ENTRY`).
const NO_FRAME: u64 = u64::MAX;

/// Maps the next frames, at most to the end of one L1 table.
fn map_more(free: &mut FreePages, wanted: u64) -> Option<()> {
    let first = free.mapped_end;
    let table_end = (first / 512 + 1) * 512;
    // Maps a whole table at a time when many pages are wanted, but not far beyond, since mapping costs boot time.
    let last = table_end.min(free.end).min((wanted + 31).max(first + 64));
    paging::map_direct(first, last, || table_page(free))?;
    free.mapped_end = last;
    Some(())
}

/// A zeroed page for a page table, from mapped pages only, so that mapping never recurses.
fn table_page(free: &mut FreePages) -> Option<u64> {
    let address = if free.next < free.mapped_end {
        free.next += 1;
        direct(free.next - 1)
    } else {
        let page = RESERVE.get(free.reserve_used)?;
        free.reserve_used += 1;
        address_of(page)
    };
    HANDED_OUT.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the page is mapped and was just taken from the free pages.
    unsafe {
        core::ptr::with_exposed_provenance_mut::<u8>(address as usize).write_bytes(0, PAGE_BYTES)
    };
    Some(address)
}
