//! Values with one owner: [`PerCpu`], one value for each physical CPU, and [`OwnerCell`], a value that one CPU at a
//! time owns, possibly for longer than a scope (docs/adr/0005).
#![expect(
    unsafe_code,
    reason = "the cells' contract is what makes the sharing sound"
)]

use crate::kit::atomic::{AtomicBool, Ordering};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use super::ids::{CpuId, MAX_CPUS};
use super::lock::wait_step;

/// One value for each physical CPU. Each room declares its own as a static.
pub struct PerCpu<T>([T; MAX_CPUS]);

impl<T> PerCpu<T> {
    /// Wraps an array of initial values, one for each CPU number.
    pub const fn new(values: [T; MAX_CPUS]) -> Self {
        Self(values)
    }
    /// The value that belongs to `cpu`.
    pub fn of(&self, cpu: CpuId) -> &T {
        // Only boot makes a CpuId, below MAX_CPUS; with the mask the compiler knows it, and emits no panic.
        &self.0[cpu.index() % MAX_CPUS]
    }
    /// The values of all CPUs, indexed by CPU number.
    pub fn all(&self) -> &[T] {
        &self.0
    }
}

/// A value with one owner at a time, which may keep it beyond a scope. A vCPU's registers, for example, belong to the
/// CPU that runs it, from the switch to the vCPU until the switch away; other CPUs visit them in between. Taking the
/// cell is an acquire and releasing it a release, so an owner sees all that the previous one wrote.
pub struct OwnerCell<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through `get`, by a caller that owns it, or through a `Visit`, which is ownership.
unsafe impl<T: Send> Sync for OwnerCell<T> {}

impl<T> OwnerCell<T> {
    /// Makes a cell that has no owner.
    pub const fn new(value: T) -> Self {
        Self {
            taken: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the ownership for the lifetime of the [`Visit`]; spins while another CPU has it.
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

    /// Gives up the ownership.
    ///
    /// # Safety
    /// The caller is the owner and has dropped all references to the value.
    pub unsafe fn release(&self) {
        self.taken.store(false, Ordering::Release);
    }

    /// The value, for the CPU that keeps the ownership.
    ///
    /// # Safety
    /// The caller is the owner ([`Visit::keep`]) and has no other reference to the value.
    #[expect(clippy::mut_from_ref, reason = "exclusiveness is the caller's promise")]
    pub unsafe fn get(&self) -> &mut T {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.value.get() }
    }

    /// Takes the ownership for the lifetime of the [`Visit`], or returns `None` if the cell has an owner.
    pub fn visit(&self) -> Option<Visit<'_, T>> {
        // Not `then_some`: that would build a `Visit` even on failure, and dropping it would release another CPU's
        // ownership.
        self.take().then(|| Visit(self))
    }
}

/// Ownership of an [`OwnerCell`] until the visit is dropped.
pub struct Visit<'a, T>(&'a OwnerCell<T>);

impl<T> Visit<'_, T> {
    /// Keeps the ownership beyond the visit, until [`OwnerCell::release`].
    pub fn keep(self) {
        core::mem::forget(self);
    }
}

impl<T> Deref for Visit<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: a visit owns the value.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Visit<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: a visit owns the value.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Visit<'_, T> {
    fn drop(&mut self) {
        // SAFETY: a visit owns the value, and its references end with it.
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
        // SAFETY: the cell is owned, and there are no references.
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

    /// Changes both numbers. The atomic access between them is a point at which loom may switch to the other CPU; loom
    /// doesn't switch at a location that the CPUs only read.
    fn change(pair: &mut (u32, u32), switch: &AtomicU32) {
        assert_eq!(pair.0, pair.1);
        pair.0 += 1;
        switch.fetch_add(1, Relaxed);
        pair.1 += 1;
    }

    /// One CPU owns the cell for a while as another visits it: neither sees the value half-changed,
    /// and no change is lost.
    #[test]
    fn an_owner_and_a_visitor_exclude_each_other() {
        explore(4, || {
            let shared = Arc::new((OwnerCell::new((0, 0)), AtomicU32::new(0)));
            drop(shared.0.visit()); // touches the atomics before the spawn
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
            // SAFETY: owned since the line above; the reference ends before the release.
            change(unsafe { shared.0.get() }, &shared.1);
            // SAFETY: as above.
            unsafe { shared.0.release() };
            let visits = visitor.join().unwrap();
            assert_eq!(*shared.0.visit().unwrap(), (1 + visits, 1 + visits));
        });
    }
}
