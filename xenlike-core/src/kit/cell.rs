//! Per-CPU values and a cell for what only its owner touches.
#![expect(
    unsafe_code,
    reason = "the cells' contract is what makes the sharing sound"
)]

use crate::kit::atomic::{AtomicBool, Ordering};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use super::ids::{CpuId, MAX_CPUS};
use super::lock::wait_step;

/// One value for each physical CPU. A room declares its own as a static.
pub struct PerCpu<T>([T; MAX_CPUS]);

impl<T> PerCpu<T> {
    /// From an array of initial values.
    pub const fn new(values: [T; MAX_CPUS]) -> Self {
        Self(values)
    }
    /// The value of `cpu`.
    pub fn of(&self, cpu: CpuId) -> &T {
        // A CpuId is made by boot alone, below MAX_CPUS; the mask makes that a fact for the compiler.
        &self.0[cpu.index() % MAX_CPUS]
    }
    /// All values, by CPU number.
    pub fn all(&self) -> &[T] {
        &self.0
    }
}

/// A value with one owner at a time, who may keep it beyond a scope: a vCPU's registers belong to
/// the CPU that runs it, from the switch to it until the switch away. Others visit it in between.
pub struct OwnerCell<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through `get`, whose caller owns it, or through a `Visit`.
unsafe impl<T: Send> Sync for OwnerCell<T> {}

impl<T> OwnerCell<T> {
    /// A cell without owner.
    pub const fn new(value: T) -> Self {
        Self {
            taken: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Owns the value for a while; waits until nobody else does.
    pub fn wait_visit(&self) -> Visit<'_, T> {
        while !self.take() {
            wait_step();
        }
        Visit(self)
    }

    fn take(&self) -> bool {
        let free = self
            .taken
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        free.is_ok()
    }

    /// Gives the ownership up.
    ///
    /// # Safety
    /// The caller is the owner and has let go of all references to the value.
    pub unsafe fn release(&self) {
        self.taken.store(false, Ordering::Release);
    }

    /// The value.
    ///
    /// # Safety
    /// The caller is the owner ([`Visit::keep`]) and has no other reference to the value.
    #[expect(clippy::mut_from_ref, reason = "exclusiveness is the caller's promise")]
    pub unsafe fn get(&self) -> &mut T {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.value.get() }
    }

    /// Owns the value for a while, unless somebody else does.
    pub fn visit(&self) -> Option<Visit<'_, T>> {
        // Not `then_some`: a visit that is made and dropped releases what it doesn't own.
        self.take().then(|| Visit(self))
    }
}

/// Temporary ownership of an [`OwnerCell`].
pub struct Visit<'a, T>(&'a OwnerCell<T>);

impl<T> Visit<'_, T> {
    /// The ownership outlives the visit, until [`OwnerCell::release`].
    pub fn keep(self) {
        core::mem::forget(self);
    }
}

impl<T> Deref for Visit<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: a visit is the ownership.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Visit<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: a visit is the ownership.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Visit<'_, T> {
    fn drop(&mut self) {
        // SAFETY: a visit is the ownership, and its references end with it.
        unsafe { self.0.release() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_visitor_at_a_time() {
        let cell = OwnerCell::new(1);
        let mut first = cell.visit().unwrap();
        *first += 1;
        assert!(cell.visit().is_none());
        assert!(cell.visit().is_none(), "released by one who was refused");
        drop(first);
        assert_eq!(*cell.visit().unwrap(), 2);
    }

    #[test]
    fn an_owner_keeps_visitors_out() {
        let cell = OwnerCell::new(());
        cell.wait_visit().keep();
        assert!(cell.visit().is_none());
        // SAFETY: owned, no references.
        unsafe { cell.release() };
        assert!(cell.visit().is_some());
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::OwnerCell;
    use crate::kit::atomic::model::explore;
    use crate::kit::atomic::{AtomicU32, Ordering::Relaxed};
    use loom::thread;
    use std::sync::Arc;

    /// Changes both numbers, with a point at which loom may switch to the other CPU between them. (It doesn't at what two
    /// CPUs only read.)
    fn change(pair: &mut (u32, u32), switch: &AtomicU32) {
        assert_eq!(pair.0, pair.1);
        pair.0 += 1;
        switch.fetch_add(1, Relaxed);
        pair.1 += 1;
    }

    /// Two CPUs of which one owns the cell for a while and the other visits it: nobody sees the
    /// value half-changed, and no change is lost.
    #[test]
    fn an_owner_and_a_visitor_exclude_each_other() {
        explore(4, || {
            let shared = Arc::new((OwnerCell::new((0, 0)), AtomicU32::new(0)));
            drop(shared.0.visit()); // touches the atomics
            shared.1.load(Relaxed);
            let theirs = shared.clone();
            let visitor = thread::spawn(move || {
                let Some(mut visit) = theirs.0.visit() else {
                    return 0;
                };
                change(&mut visit, &theirs.1);
                1
            });
            shared.0.wait_visit().keep();
            // SAFETY: owned since just now; the reference ends before the release.
            change(unsafe { shared.0.get() }, &shared.1);
            // SAFETY: as above.
            unsafe { shared.0.release() };
            let visits = visitor.join().unwrap();
            assert_eq!(*shared.0.visit().unwrap(), (1 + visits, 1 + visits));
        });
    }
}
