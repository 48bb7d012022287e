//! The global allocator: talc over 2 MiB blocks (or smaller ones, when memory is fragmented) that it
//! takes from the frame allocator as it grows. It never gives them back.
//!
//! When it fails, `alloc` is at its end and the core panics: so whoever allocates on a guest's word
//! asks [`headroom`] first, or bounds what a domain may have.
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
    bytes.checked_add(RESERVE).is_some_and(|b| b <= headroom())
}

#[cfg(target_os = "none")]
mod global {
    use core::alloc::Layout;
    use core::sync::atomic::{AtomicBool, Ordering};

    use talc::TalcLock;
    use talc::base::Talc;
    use talc::base::binning::Binning;
    use talc::lock_api::{GuardSend, RawMutex};
    use talc::source::Source;

    use crate::kit::lock::wait_step;
    use crate::kit::{DomId, Mfn};
    use crate::mm::alloc::{Where, alloc_order};
    use crate::mm::{directmap, frames};

    /// Order of the blocks that the heap grows by, when it can have them.
    const GROW_ORDER: u32 = 9;

    #[global_allocator]
    static HEAP: TalcLock<Spin, Frames> = TalcLock::new(Frames);

    /// The heap's lock: one bit, waited for as all locks of the core are.
    #[derive(Debug)]
    pub struct Spin(AtomicBool);

    // SAFETY: the exchange lets one holder in, with acquire and release order.
    unsafe impl RawMutex for Spin {
        const INIT: Self = Self(AtomicBool::new(false));
        type GuardMarker = GuardSend;

        fn lock(&self) {
            while !self.try_lock() {
                wait_step();
            }
        }
        fn try_lock(&self) -> bool {
            !self.0.swap(true, Ordering::Acquire)
        }
        unsafe fn unlock(&self) {
            self.0.store(false, Ordering::Release);
        }
    }

    /// Memory for the heap: from the frame allocator.
    #[derive(Debug)]
    struct Frames;

    // SAFETY: `acquire` allocates from the frame allocator, which does not use the heap.
    unsafe impl Source for Frames {
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
            // SAFETY: the block is the hypervisor's own and has no other use for ever.
            let claimed = unsafe { talc.claim(directmap::ptr(first), 4096usize << order) };
            claimed.map(|_| ()).ok_or(())
        }
    }

    fn block(needed: u32) -> Option<(Mfn, u32)> {
        let large = needed.max(GROW_ORDER);
        let get = |order| Some((alloc_order(order, Where::ANY)?, order));
        get(large).or_else(|| get(needed))
    }
}
