//! The heap: talc over the domain's free pages, taken in chunks as it grows.

#![expect(unsafe_code, reason = "hands free pages to the allocator")]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

use crate::large;
use crate::memory::{self, PAGE_BYTES};

/// Pages that the heap takes at a time.
const CHUNK_PAGES: usize = 64;

/// Source of the heap's memory: takes pages from [`memory`] when the heap is full.
#[derive(Debug)]
pub(crate) struct FreePages {
    /// End of the last chunk. A chunk that begins here extends it.
    end: Option<NonNull<u8>>,
}

// SAFETY: the pointer is only compared as an address; the memory behind it belongs to the heap, on any vCPU.
unsafe impl Send for FreePages {}

// SAFETY: the pages come from the page allocator, which never allocates from the heap.
unsafe impl Source for FreePages {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        // Leaves room for the allocator's own words.
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
            // SAFETY: the pages were just allocated and have no other user.
            _ => unsafe { talc.claim(start, length) },
        };
        talc.source.end = claimed;
        claimed.map(|_| ()).ok_or(())
    }
}

/// The heap for small blocks (talc); blocks above a threshold come from [`large`].
struct Heap(talc::TalcLock<crate::sync::RawLock, FreePages>);

// SAFETY: each block comes from one of two allocators, and its address tells from which.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= large::THRESHOLD
            && layout.align() <= PAGE_BYTES
            && let Some(block) = large::allocate(layout.size())
        {
            return block;
        }
        // SAFETY: the caller's promise of `GlobalAlloc`.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if large::owns(block) {
            // SAFETY: the address shows that `large` allocated the block, with that size.
            unsafe { large::free(block, layout.size()) }
        } else {
            // SAFETY: the caller's promise of `GlobalAlloc`.
            unsafe { self.0.dealloc(block, layout) }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !large::owns(block) && size < large::THRESHOLD {
            // SAFETY: the caller's promise of `GlobalAlloc`.
            return unsafe { self.0.realloc(block, layout, size) };
        }
        // SAFETY: the caller's promise: the size is not zero and does not overflow with the alignment.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, size.min(layout.size()));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[cfg(guest)]
#[global_allocator]
static HEAP: Heap = Heap(talc::TalcLock::new(FreePages { end: None }));
