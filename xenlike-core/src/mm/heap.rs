//! The global allocator: talc, over one block from boot, which it keeps, and smaller blocks, which it takes
//! from the frame allocator as it grows and returns when they are empty.
//!
//! If an allocation that can't report failure fails, the core panics. Therefore code that allocates on behalf
//! of a guest asks [`can_grow`] first and can fail; what a domain may allocate is bounded (docs/SECURITY.md
//! lists the bounds); and memory for domains is given out only above [`frames_to_leave`].
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "claims frames as heap memory")
)]

use super::alloc;

/// Returns the number of bytes by which the heap can still grow.
pub fn headroom() -> u64 {
    alloc::free_frames().saturating_mul(4096)
}

/// The bytes that must remain for the hypervisor after any allocation on behalf of a guest.
pub const RESERVE: u64 = 4 << 20;

/// Whether `bytes` more may be allocated on behalf of a guest.
pub fn can_grow(bytes: u64) -> bool {
    if cfg!(loom) {
        return true; // a model has no machine memory
    }
    #[cfg(test)]
    if short::is_pretended() {
        return false;
    }
    #[cfg(target_os = "none")]
    if !standby::is_complete() {
        return false;
    }
    bytes.checked_add(RESERVE).is_some_and(|b| b <= headroom())
}

/// Returns the number of frames that an allocation for a domain must leave free: [`RESERVE`].
pub fn frames_to_leave() -> u64 {
    #[cfg(test)]
    if short::is_pretended() {
        return u64::MAX;
    }
    RESERVE / 4096
}

/// Standby blocks, for when the allocator has no block that is large enough, because guests hold its frames in
/// pieces. They serve the few allocations that can't fail. Allocations on behalf of a guest are refused while a
/// block is missing.
#[cfg(any(target_os = "none", test))]
mod standby {
    use crate::kit::Mfn;
    use crate::kit::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Relaxed};
    use crate::mm::alloc::{Past, Where, alloc_order_for, free};

    /// The order of a block. Everything that is allocated without a check between two checks fits into one.
    pub const ORDER: u32 = 6;

    /// The first frame of each block; 0 if the block was used.
    static KEPT: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

    /// Replaces the blocks that were used. Returns whether all blocks are there.
    pub fn is_complete() -> bool {
        let there = |kept: &AtomicU64| kept.load(Relaxed) != 0;
        KEPT.iter().all(|kept| there(kept) || replace(kept))
    }

    #[cold]
    fn replace(kept: &AtomicU64) -> bool {
        let Some(block) = alloc_order_for(ORDER, Where::ANY, Past::HEAP) else {
            return false;
        };
        if kept.compare_exchange(0, block.0, AcqRel, Relaxed).is_err() {
            free(block, ORDER); // another CPU was faster
        }
        true
    }

    /// Takes a block, if one is left.
    pub fn take() -> Option<Mfn> {
        let taken = KEPT.iter().map(|kept| kept.swap(0, AcqRel));
        taken.map(Mfn).find(|block| block.0 != 0)
    }

    #[test]
    fn blocks_are_replaced_when_they_were_used() {
        assert!(is_complete());
        let blocks = [take(), take()].map(|block| block.expect("a block"));
        assert_eq!(take(), None);
        assert!(is_complete());
        for block in blocks.into_iter().chain(core::iter::from_fn(take)) {
            free(block, ORDER);
        }
    }
}

/// For tests: makes the calling thread believe that memory is short.
#[cfg(test)]
pub mod short {
    use core::cell::Cell;

    std::thread_local! {
        static PRETENDED: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn is_pretended() -> bool {
        PRETENDED.get()
    }

    /// Calls `act` while memory is short for this thread.
    pub fn of_memory<R>(act: impl FnOnce() -> R) -> R {
        PRETENDED.set(true);
        let result = act();
        PRETENDED.set(false);
        result
    }
}

#[cfg(target_os = "none")]
pub use global::start;

#[cfg(target_os = "none")]
mod global {
    use core::alloc::Layout;

    use talc::TalcLock;
    use talc::base::Talc;
    use talc::base::binning::Binning;
    use talc::source::Source;

    use super::standby;
    use crate::kit::lock::WaitStep;
    use crate::kit::{DomId, Mfn};
    use crate::mm::alloc::{Past, Where, alloc_order_for, free_run};
    use crate::mm::{directmap, frames};

    /// The order of the blocks by which the heap grows. They are small, because the last allocation in a block
    /// may be freed at any time, and the next one made soon after.
    const GROW_ORDER: u32 = 6;

    /// The heap's lock, which is fair like all of the core's locks and waits like them. It comes before
    /// [`crate::kit::Rank::Frames`] and may be taken under any other lock.
    type Tickets = spin::mutex::TicketMutex<(), WaitStep>;

    #[global_allocator]
    static HEAP: TalcLock<Tickets, Frames> = TalcLock::new(Frames);

    /// Gives the heap its first memory, which it keeps.
    ///
    /// # Safety
    /// The `bytes` at `first` are in the direct map, and nothing else ever uses them.
    pub unsafe fn start(first: *mut u8, bytes: usize) {
        // SAFETY: by the caller's promise.
        let _ = unsafe { HEAP.lock().claim(first, bytes) };
    }

    /// The frame allocator as the heap's source of memory.
    #[derive(Debug)]
    struct Frames;

    // SAFETY: both functions use the frame allocator, which doesn't use the heap. Only a block without
    // allocations is returned.
    unsafe impl Source for Frames {
        const TRACK_HEAP_END: bool = true;

        fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
            let needed = layout.size().saturating_mul(2).max(1 << 16);
            let needed = needed
                .next_power_of_two()
                .trailing_zeros()
                .saturating_sub(12);
            let (first, order) = block(needed).ok_or(())?;
            for n in 0..1u64 << order {
                if let Some(frame) = frames().get(first.add(n)) {
                    // From now on, the bytes can't be accessed as a shared page.
                    frame.set_owner(DomId::IDLE);
                }
            }
            // SAFETY: the block is the hypervisor's own, and has no other use until `resize` frees it.
            let claimed = unsafe { talc.claim(directmap::ptr(first), 4096usize << order) };
            claimed.map(|_| ()).ok_or(())
        }

        /// Called when the heap's end is free from `chunk_base` on: returns a block that has become empty.
        unsafe fn resize(
            &mut self,
            chunk_base: *mut u8,
            heap_end: *mut u8,
            is_heap_base: bool,
        ) -> *mut u8 {
            if !is_heap_base {
                return heap_end;
            }
            // The first bytes of a block are talc's own.
            let first = directmap::mfn_of(chunk_base.wrapping_sub(1));
            let end = directmap::mfn_of(heap_end.wrapping_sub(1)).add(1);
            free_run(first, end.0.saturating_sub(first.0), Past::HEAP);
            chunk_base
        }
    }

    fn block(needed: u32) -> Option<(Mfn, u32)> {
        let large = needed.max(GROW_ORDER);
        // The data in such a block is the heap's own, so a block that is freed and allocated again repeatedly
        // is not scrubbed each time.
        let get = |order| Some((alloc_order_for(order, Where::ANY, Past::HEAP)?, order));
        let found = get(large).or_else(|| get(needed));
        if found.is_none() && needed <= standby::ORDER {
            return Some((standby::take()?, standby::ORDER));
        }
        found
    }
}
