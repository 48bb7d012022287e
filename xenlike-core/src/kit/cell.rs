//! Per-CPU values and a cell for what only its owner touches.
#![expect(
    unsafe_code,
    reason = "the cells' contract is what makes the sharing sound"
)]

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

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

    /// Becomes the owner; waits for a visitor to leave.
    pub fn acquire(&self) {
        while self.taken.swap(true, Ordering::Acquire) {
            wait_step();
        }
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
    /// The caller is the owner ([`OwnerCell::acquire`]) and has no other reference to the value.
    #[expect(clippy::mut_from_ref, reason = "exclusiveness is the caller's promise")]
    pub unsafe fn get(&self) -> &mut T {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.value.get() }
    }

    /// Owns the value for a while, unless somebody else does.
    pub fn visit(&self) -> Option<Visit<'_, T>> {
        (!self.taken.swap(true, Ordering::Acquire)).then_some(Visit(self))
    }
}

/// Temporary ownership of an [`OwnerCell`].
pub struct Visit<'a, T>(&'a OwnerCell<T>);

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
        drop(first);
        assert_eq!(*cell.visit().unwrap(), 2);
    }

    #[test]
    fn an_owner_keeps_visitors_out() {
        let cell = OwnerCell::new(());
        cell.acquire();
        assert!(cell.visit().is_none());
        // SAFETY: owned, no references.
        unsafe { cell.release() };
        assert!(cell.visit().is_some());
    }
}
