//! The domain's free pages.
//!
//! Pseudo-physical frame n is mapped at `VIRT_BASE + n * 4096` (`frames`, whose items are public here). The builder
//! maps the kernel, the files that came with it and some spare pages. The domain's other frames are mapped on demand,
//! as many as the addresses there reach, which also limits the heap.

#![expect(unsafe_code, reason = "hands out pages")]

use core::sync::atomic::{AtomicU64, Ordering};

use guest_pv_abi::Long;
use guest_pv_abi::xen::UVMF_INVLPG;

use crate::arch::{DIRECT_FRAMES, from_long};
use crate::frames::{self, BATCH};
use crate::info::{Page, SHARED_INFO, start_info};
use crate::sync::Lock;
use crate::tables::{self, RAM_FLAGS, Source};

pub use crate::frames::{PAGE_BYTES, VIRT_BASE, direct, mfn_of, pfn_of, pfn_of_mfn, set_mfn_of};

/// Pages of the image that serve as page tables until other pages are mapped.
const RESERVE_PAGES: usize = 4;

/// `FreePages` hands out each of these once.
static RESERVE: [Page; RESERVE_PAGES] = [const { Page::new() }; RESERVE_PAGES];

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
    map_shared_info(from_long(info.shared_info));

    let page = PAGE_BYTES as u64;
    let behind_tables = from_long(info.pt_base) + from_long(info.nr_pt_frames) * page;
    let first_free = builder_stack.next_multiple_of(page).max(behind_tables);
    let mut free = FREE.lock();
    free.next = (first_free - VIRT_BASE) / page;
    free.mapped_end = free.next;
    free.end = from_long(info.nr_pages).min(DIRECT_FRAMES);
    while free.mapped_end < free.end && tables::entry_of(direct(free.mapped_end)).is_some() {
        free.mapped_end += 1;
    }
}

/// Maps the shared info page, whose machine address is `shared_info`, or the page of the image behind it.
pub(crate) fn map_shared_info(shared_info: u64) {
    // SAFETY: the page at SHARED_INFO is the image's own and used for nothing else.
    let mapped = unsafe {
        let entry = shared_info | RAM_FLAGS;
        crate::hyper::update_va_mapping(SHARED_INFO.address(), entry, UVMF_INVLPG)
    };
    assert!(
        mapped.is_ok(),
        "the shared info page can't be mapped: {mapped:?}"
    );
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
    // SAFETY: the caller's promise.
    unsafe { FREE.lock().put(page) };
}

impl FreePages {
    /// Puts a page into the list of freed pages.
    ///
    /// # Safety
    /// As for [`free_page`].
    unsafe fn put(&mut self, page: *mut u8) {
        // SAFETY: the caller's promise: the page is mapped and unused.
        unsafe { page.cast::<u64>().write(self.returned) };
        self.returned = page.expose_provenance() as u64;
        HANDED_OUT.fetch_sub(1, Ordering::Relaxed);
    }
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
    for from in (first..end).step_by(BATCH) {
        let mut batch = [0; BATCH];
        let mut count = 0;
        for pfn in from..end.min(from + BATCH as u64) {
            if let Some(frame) = mfn_of(pfn) {
                batch[count] = frame as Long;
                count += 1;
                set_mfn_of(pfn, NO_FRAME);
            }
        }
        frames::give_back(&mut batch[..count]);
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
    tables::map_direct(first, last, free)?;
    free.mapped_end = last;
    Some(())
}

/// Pages for the tables of the direct mapping, from mapped pages only, so that mapping never recurses.
impl Source for FreePages {
    fn take(&mut self) -> Option<u64> {
        let address = if self.next < self.mapped_end {
            self.next += 1;
            direct(self.next - 1)
        } else {
            let page = RESERVE.get(self.reserve_used)?;
            self.reserve_used += 1;
            page.address()
        };
        HANDED_OUT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the page is mapped and was just taken from the free pages.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u8>(address as usize)
                .write_bytes(0, PAGE_BYTES)
        };
        Some(address)
    }

    fn put_back(&mut self, page: u64) {
        // SAFETY: `take` took the page, which is mapped, and no table was made of it.
        unsafe { self.put(core::ptr::with_exposed_provenance_mut(page as usize)) };
    }
}
