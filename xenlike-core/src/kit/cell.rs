//! Per-CPU values and a cell for what only its owner touches.
#![expect(
    unsafe_code,
    reason = "the cells' contract is what makes the sharing sound"
)]

use core::cell::UnsafeCell;

use super::ids::{CpuId, MAX_CPUS};

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

/// A value that exactly one party may touch at a time, by a rule that the type system does not see
/// (for a vCPU's registers: the CPU that runs it, or whoever holds it descheduled).
pub struct OwnerCell<T>(UnsafeCell<T>);

// SAFETY: access goes through `get`, whose caller promises exclusiveness.
unsafe impl<T: Send> Sync for OwnerCell<T> {}

impl<T> OwnerCell<T> {
    /// A cell holding `value`.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }
    /// The value.
    ///
    /// # Safety
    /// The caller is the one party that may touch the value now, and lets the reference go before
    /// that ends; there is no other reference to it.
    #[expect(clippy::mut_from_ref, reason = "exclusiveness is the caller's promise")]
    pub unsafe fn get(&self) -> &mut T {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.0.get() }
    }
}
