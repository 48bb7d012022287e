//! Spin locks. The core runs with interrupts off, so a lock doesn't need to disable them. But a CPU that waits must
//! still answer TLB shoot-downs, or it deadlocks with a lock holder that waits for its answer; so each waiting step
//! calls a hook that `arch` fills in ([`wait_step`]).
//!
//! A [`Lock`] is a ticket lock and therefore fair: CPUs get it in the order in which they asked, so whatever guests do,
//! the wait is bounded by the number of CPUs times the longest hold. Each lock has a [`Rank`]. A CPU waits only for a
//! lock of a higher rank than all locks that it holds, so CPUs can't wait for each other in a cycle. Debug builds, and
//! with them the host tests, check that; release builds have neither the check nor its memory.

#[cfg(all(debug_assertions, not(loom), any(test, target_os = "none")))]
#[path = "lock/checked.rs"]
mod order;
#[cfg(loom)]
#[path = "lock/modelled.rs"]
mod order;
#[cfg(not(any(loom, all(debug_assertions, any(test, target_os = "none")))))]
#[path = "lock/unchecked.rs"]
mod order;
mod rank;

use core::fmt;
use core::ops::{Deref, DerefMut};

use spin::mutex::{TicketMutex, TicketMutexGuard};

use crate::kit::atomic::{AtomicPtr, Ordering};
use order::{Order, Turn};
pub use rank::Rank;

/// The function that a waiting CPU calls between two looks at a lock.
static WAIT_STEP: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Sets the waiting step. `arch` calls it once at boot, before a second CPU runs.
pub fn set_wait_step(step: fn()) {
    WAIT_STEP.store(step as *mut (), Ordering::Release);
}

#[cfg(all(debug_assertions, target_os = "none"))]
pub use order::set_this_cpu;

/// One step of waiting for another CPU: answers requests that the other CPU may be waiting for, then pauses.
#[expect(
    unsafe_code,
    reason = "turns the stored pointer back into the function it was"
)]
pub fn wait_step() {
    let step = WAIT_STEP.load(Ordering::Acquire);
    if !step.is_null() {
        // SAFETY: the only store is in `set_wait_step`, and it stores a `fn()`.
        let step: fn() = unsafe { core::mem::transmute(step) };
        step();
    }
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// The way in which all locks of the core wait.
#[derive(Debug)]
pub struct WaitStep;

impl spin::RelaxStrategy for WaitStep {
    fn relax() {
        wait_step();
    }
}

/// A fair spin lock with a rank.
pub struct Lock<T> {
    tickets: TicketMutex<T, WaitStep>,
    order: Order,
}

/// Exclusive access to the value of a [`Lock`]; dropping it unlocks.
pub struct LockGuard<'a, T> {
    // Fields are dropped in this order: the turn must end before the next CPU can get the lock.
    _turn: Turn<'a>,
    value: TicketMutexGuard<'a, T>,
}

impl<T> Lock<T> {
    /// Makes an unlocked lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            tickets: TicketMutex::new(value),
            order: Order::new(rank),
        }
    }

    /// Acquires the lock, spinning while another CPU holds it.
    #[inline(always)]
    pub fn lock(&self) -> LockGuard<'_, T> {
        self.order.check();
        let value = self.tickets.lock();
        LockGuard {
            _turn: self.order.enter(),
            value,
        }
    }

    /// Acquires the lock if it is free. It never waits, so it may break the order of ranks.
    #[inline]
    pub fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        let value = self.tickets.try_lock()?;
        Some(LockGuard {
            _turn: self.order.enter(),
            value,
        })
    }

    /// The value, whether or not a CPU holds the lock. For the panic handler, which must not wait.
    pub fn as_mut_ptr(&self) -> *mut T {
        self.tickets.as_mut_ptr()
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// A value that is set once, at boot.
pub type Once<T> = spin::once::Once<T, WaitStep>;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    static OUTER: Lock<u32> = Lock::new(Rank::Teardown, 0);
    static INNER: Lock<u32> = Lock::new(Rank::Console, 0);

    #[test]
    fn one_holder_at_a_time() {
        let lock = Lock::new(Rank::Console, 1);
        let mut held = lock.lock();
        assert!(lock.try_lock().is_none());
        *held += 1;
        drop(held);
        assert_eq!(lock.try_lock().map(|value| *value), Some(2));
    }

    #[test]
    fn locks_are_taken_by_rank_and_given_back_in_any_order() {
        let outer = OUTER.lock();
        let inner = INNER.lock();
        drop(outer);
        drop(inner);
        let _inner = INNER.lock();
        let _outer = OUTER.try_lock();
    }

    #[test]
    #[should_panic(expected = "Teardown")]
    fn waiting_for_a_lower_rank_panics() {
        let lower = Lock::new(Rank::Teardown, ());
        let higher = Lock::new(Rank::Console, ());
        let _inner = higher.lock();
        let _outer = lower.lock();
    }

    #[test]
    fn two_of_one_rank_are_taken_by_address() {
        let pair = [
            Lock::new(Rank::EventBook, ()),
            Lock::new(Rank::EventBook, ()),
        ];
        let [low, high] = &pair;
        let _low = low.lock();
        let _high = high.lock();
    }

    #[test]
    #[should_panic(expected = "EventBook")]
    fn waiting_for_a_lower_address_of_one_rank_panics() {
        let pair = [
            Lock::new(Rank::EventBook, ()),
            Lock::new(Rank::EventBook, ()),
        ];
        let [low, high] = &pair;
        let _high = high.lock();
        let _low = low.lock();
    }
}

#[cfg(all(test, loom))]
mod models {
    use std::sync::Arc;

    use loom::thread;

    use super::{Lock, Rank};
    use crate::kit::atomic::AtomicU32;
    use crate::kit::atomic::Ordering::Relaxed;
    use crate::kit::atomic::model::explore;

    /// A holder sees what the previous one did without ordering of its own, because the lock orders the two.
    #[test]
    fn holders_exclude_each_other_and_see_what_the_last_one_did() {
        explore(4, || {
            let shared = Arc::new((Lock::new(Rank::Console, ()), AtomicU32::new(0)));
            drop(shared.0.lock()); // touches the atomics before the spawn
            shared.1.load(Relaxed);
            let add = |shared: &(Lock<()>, AtomicU32)| {
                let _held = shared.0.lock();
                let before = shared.1.load(Relaxed);
                shared.1.store(before + 1, Relaxed);
            };
            let theirs = shared.clone();
            let other = thread::spawn(move || add(&theirs));
            add(&shared);
            other.join().unwrap();
            let _held = shared.0.lock();
            assert_eq!(shared.1.load(Relaxed), 2);
        });
    }
}
