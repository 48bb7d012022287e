//! The heap: talc over the domain's free pages, taken in chunks as it grows.

#![expect(unsafe_code, reason = "hands free pages to the allocator")]

use core::alloc::Layout;
use core::ptr::NonNull;

use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

use crate::memory::{self, PAGE_BYTES};

/// Pages taken at a time.
const CHUNK_PAGES: usize = 64;

/// Takes pages from [`memory`] when the heap is full.
#[derive(Debug)]
pub(crate) struct FreePages {
    /// End of the last chunk, which a neighbouring chunk extends.
    end: Option<NonNull<u8>>,
}

// SAFETY: the pointer is an address to compare; the memory behind it belongs to the heap, wherever used.
unsafe impl Send for FreePages {}

// SAFETY: the pages come from the page allocator, which never allocates from the heap.
unsafe impl Source for FreePages {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        // Room for the allocator's own words besides what is asked for.
        let bytes = layout.size().checked_add(layout.align()).ok_or(())?;
        let pages = bytes
            .div_ceil(PAGE_BYTES)
            .saturating_add(2)
            .max(CHUNK_PAGES);
        let start = memory::allocate_pages(pages).ok_or(())?;
        let length = pages * PAGE_BYTES;
        let claimed = match talc.source.end {
            // SAFETY: the new pages begin where the heap ends, and are ours.
            Some(end) if end.as_ptr() == start => unsafe {
                Some(talc.extend(end, start.wrapping_add(length)))
            },
            // SAFETY: nobody else uses these pages.
            _ => unsafe { talc.claim(start, length) },
        };
        talc.source.end = claimed;
        claimed.map(|_| ()).ok_or(())
    }
}

#[cfg(target_os = "none")]
#[global_allocator]
static HEAP: talc::TalcLock<crate::sync::RawLock, FreePages> =
    talc::TalcLock::new(FreePages { end: None });
