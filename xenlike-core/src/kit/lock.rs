//! Spin locks. The core runs with interrupts off, so a lock needs nothing more than its bit; but a
//! CPU that waits must still answer TLB shoot-downs, or two CPUs deadlock: the waiting step is a
//! hook that `arch` fills in.

use crate::kit::atomic::{AtomicPtr, Ordering};

/// What a waiting CPU does between two looks at the lock.
static WAIT_STEP: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Sets the waiting step; `arch` does so once at boot, before a second CPU runs.
pub fn set_wait_step(step: fn()) {
    WAIT_STEP.store(step as *mut (), Ordering::Release);
}

/// One step of waiting for another CPU: answer what it may be waiting for, then pause.
#[expect(
    unsafe_code,
    reason = "turns the stored pointer back into the function it was"
)]
pub fn wait_step() {
    let step = WAIT_STEP.load(Ordering::Acquire);
    if !step.is_null() {
        // SAFETY: the only store is in `set_wait_step`, of a `fn()`.
        let step: fn() = unsafe { core::mem::transmute(step) };
        step();
    }
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// The waiting strategy of all locks of the core.
#[derive(Debug)]
pub struct WaitStep;

impl spin::RelaxStrategy for WaitStep {
    fn relax() {
        wait_step();
    }
}

/// A spin lock.
pub type Lock<T> = spin::mutex::SpinMutex<T, WaitStep>;
/// The guard of a [`Lock`].
pub type LockGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T>;
/// A lock with many readers or one writer.
pub type RwLock<T> = spin::rwlock::RwLock<T, WaitStep>;
/// A value set once, at boot.
pub type Once<T> = spin::once::Once<T, WaitStep>;
