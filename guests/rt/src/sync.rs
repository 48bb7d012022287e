//! A lock for data that several vCPUs, or a vCPU and its event handlers, share.
//!
//! Acquiring it masks the vCPU's event upcalls until it is released, so that a handler can safely acquire a
//! lock that `main` uses. A waiting vCPU yields to the lock's holder.

#![expect(unsafe_code, reason = "implements lock_api's unsafe traits")]

use core::sync::atomic::{AtomicBool, Ordering};

use lock_api::GuardNoSend;

use crate::{cpu, hyper};

/// The raw lock behind [`Lock`].
pub struct RawLock {
    taken: AtomicBool,
    /// Whether upcalls were unmasked when the holder acquired the lock.
    reopen: AtomicBool,
}

/// A value protected by a lock.
pub type Lock<T> = lock_api::Mutex<RawLock, T>;

impl RawLock {
    fn acquire(&self) -> bool {
        self.taken
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

// SAFETY: `taken` admits one holder at a time.
unsafe impl lock_api::RawMutex for RawLock {
    const INIT: Self = Self {
        taken: AtomicBool::new(false),
        reopen: AtomicBool::new(false),
    };

    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        // Masked before the lock is acquired: an event handler on this vCPU that wants the lock would
        // otherwise wait for ever.
        let open = cpu::mask_events();
        while !self.acquire() {
            hyper::yield_now();
        }
        self.reopen.store(open, Ordering::Relaxed);
    }

    fn try_lock(&self) -> bool {
        let open = cpu::mask_events();
        if self.acquire() {
            self.reopen.store(open, Ordering::Relaxed);
            return true;
        }
        if open {
            cpu::unmask_events();
        }
        false
    }

    unsafe fn unlock(&self) {
        // Read before the release, after which the next holder may overwrite it.
        let open = self.reopen.load(Ordering::Relaxed);
        self.taken.store(false, Ordering::Release);
        if open {
            cpu::unmask_events();
        }
    }
}
