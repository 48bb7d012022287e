//! The global allocator: talc over one block from boot, which it keeps, and smaller blocks that
//! it takes from the frame allocator as it grows and gives back when nothing is left in them.
//!
//! When an allocation that can't fail does, the core panics. So whoever allocates on a guest's word
//! asks [`can_grow`] first and can fail, and what a domain may have is bounded (docs/SECURITY.md lists
//! the bounds); and memory for domains is given out only above [`frames_to_leave`].
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "claims frames as heap memory")
)]

use super::alloc;

/// Bytes that the heap can surely still grow by.
pub fn headroom() -> u64 {
    alloc::free_frames().saturating_mul(4096)
}

/// What must be left for the hypervisor after any allocation that a guest asks for, in bytes.
pub const RESERVE: u64 = 4 << 20;

/// Whether `bytes` more may be allocated on a guest's word.
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

/// How many frames an allocation for a domain leaves free: [`RESERVE`].
pub fn frames_to_leave() -> u64 {
    #[cfg(test)]
    if short::is_pretended() {
        return u64::MAX;
    }
    RESERVE / 4096
}

/// Blocks for the heap when the allocator has none large enough, because guests hold its frames in
/// pieces. They serve the few allocations that can't fail: one on a guest's word is refused while a
/// block is missing.
#[cfg(any(target_os = "none", test))]
mod standby {
    use crate::kit::Mfn;
    use crate::kit::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Relaxed};
    use crate::mm::alloc::{Past, Where, alloc_order_for, free};

    /// Order of a block: all that is allocated without a check between two checks fits in one.
    pub const ORDER: u32 = 6;

    /// The first frame of each block; 0: it was used.
    static KEPT: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

    /// Whether no block is missing, after those that were used have been replaced.
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

    /// A block, if one is left.
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

/// For tests: a machine whose memory has run out, as far as the calling thread sees.
#[cfg(test)]
pub mod short {
    use core::cell::Cell;

    std::thread_local! {
        static PRETENDED: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn is_pretended() -> bool {
        PRETENDED.get()
    }

    /// What `act` comes to on such a machine.
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

    /// Order of the blocks that the heap grows by: small, because the last use may end at any time, and the
    /// next one begin.
    const GROW_ORDER: u32 = 6;

    /// The heap's lock, fair and waited for as all locks of the core are. It comes before
    /// [`crate::kit::Rank::Frames`] and may be taken under any other lock.
    type Tickets = spin::mutex::TicketMutex<(), WaitStep>;

    #[global_allocator]
    static HEAP: TalcLock<Tickets, Frames> = TalcLock::new(Frames);

    /// Gives the heap the memory that it begins with, and has for ever.
    ///
    /// # Safety
    /// The `bytes` at `first` lie in the direct map, and nothing else ever uses them.
    pub unsafe fn start(first: *mut u8, bytes: usize) {
        // SAFETY: the caller's promise.
        let _ = unsafe { HEAP.lock().claim(first, bytes) };
    }

    /// Memory for the heap: from the frame allocator.
    #[derive(Debug)]
    struct Frames;

    // SAFETY: both allocate from and free to the frame allocator, which does not use the heap; only a
    // block in which nothing is allocated any more is given back.
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
                    // From now on nobody may see these bytes as a shared page.
                    frame.set_owner(DomId::IDLE);
                }
            }
            // SAFETY: the block is the hypervisor's own and has no other use until `resize` frees it.
            let claimed = unsafe { talc.claim(directmap::ptr(first), 4096usize << order) };
            claimed.map(|_| ()).ok_or(())
        }

        /// The heap's end becomes free down to `chunk_base`: a block that is empty goes back.
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
        // A block that goes back and forth, as its last use ends and the next begins, is not scrubbed each time.
        let get = |order| Some((alloc_order_for(order, Where::ANY, Past::HEAP)?, order));
        let found = get(large).or_else(|| get(needed));
        if found.is_none() && needed <= standby::ORDER {
            return Some((standby::take()?, standby::ORDER));
        }
        found
    }
}
