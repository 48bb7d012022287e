//! [`AtomicRef`]: a shared reference that can be replaced at run time. The tables of hypercalls and traps are reached
//! through such references, so that tracing costs nothing while it is off.
#![expect(
    unsafe_code,
    reason = "turns the address back into the reference it was"
)]

use crate::kit::atomic::{AtomicPtr, Ordering};
use core::ptr;

/// Refers to a value that lives for ever. Reading it is one plain load on x86.
#[repr(transparent)]
pub struct AtomicRef<T: Sync + 'static>(AtomicPtr<T>);

impl<T: Sync + 'static> AtomicRef<T> {
    /// A reference to `first`.
    pub const fn new(first: &'static T) -> Self {
        Self(AtomicPtr::new(ptr::from_ref(first).cast_mut()))
    }

    /// The value that it refers to at present.
    #[inline]
    pub fn get(&self) -> &'static T {
        // SAFETY: `new` and `set` store only addresses of `'static` references, and only shared references are made
        // from them.
        unsafe { &*self.0.load(Ordering::Acquire) }
    }

    /// Makes it refer to `next`. A CPU that loads the new address also sees what was written to `*next` before.
    pub fn set(&self, next: &'static T) {
        self.0
            .store(ptr::from_ref(next).cast_mut(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refers_to_what_was_set_last() {
        static VALUES: [u8; 2] = [1, 2];
        let reference = AtomicRef::new(&VALUES[0]);
        assert_eq!(*reference.get(), 1);
        reference.set(&VALUES[1]);
        assert_eq!(*reference.get(), 2);
    }
}
