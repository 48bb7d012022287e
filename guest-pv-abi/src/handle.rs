//! Guest pointers in the form in which the ABI carries them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A virtual address in the caller's address space (`XEN_GUEST_HANDLE`). It is a claim, not a reference: the
/// hypervisor copies through it and never dereferences it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct GuestHandle(
    /// The virtual address.
    pub u64,
);

impl GuestHandle {
    /// The null handle. Several calls take it as a request for the size alone.
    pub const NULL: Self = Self(0);

    /// The handle of a value that the callee reads.
    pub fn of<T: ?Sized>(value: &T) -> Self {
        Self(core::ptr::from_ref(value).cast::<()>().expose_provenance() as u64)
    }

    /// The handle of a value that the callee writes.
    pub fn of_mut<T: ?Sized>(value: &mut T) -> Self {
        Self(core::ptr::from_mut(value).cast::<()>().expose_provenance() as u64)
    }

    /// Whether the handle is null.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The handle `bytes` further on; `None` beyond the end of the address space.
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(address) => Some(Self(address)),
            None => None,
        }
    }
}
