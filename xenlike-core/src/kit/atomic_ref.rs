//! A reference that may come to refer to something else.
#![expect(
    unsafe_code,
    reason = "turns the address back into the reference it was"
)]

use crate::kit::atomic::{AtomicPtr, Ordering};
use core::ptr;

/// Refers to something that lives for ever; read by one plain load.
#[repr(transparent)]
pub struct AtomicRef<T: Sync + 'static>(AtomicPtr<T>);

impl<T: Sync + 'static> AtomicRef<T> {
    /// To `first`.
    pub const fn new(first: &'static T) -> Self {
        Self(AtomicPtr::new(ptr::from_ref(first).cast_mut()))
    }

    /// What it refers to now.
    #[inline]
    pub fn get(&self) -> &'static T {
        // SAFETY: `new` and `set` store nothing but references that hold for ever, and only shared ones
        // are made of them.
        unsafe { &*self.0.load(Ordering::Acquire) }
    }

    /// From now on it refers to `next`.
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
