//! Guest pointers in the form in which the ABI carries them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::form::same_form;

macro_rules! handle {
    ($(#[$meta:meta])* $name:ident, $word:ty) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $name(
            /// The virtual address.
            pub $word,
        );

        impl $name {
            /// The null handle. Several calls take it as a request for the size alone.
            pub const NULL: Self = Self(0);

            /// The handle of a value that the callee reads.
            pub fn of<T: ?Sized>(value: &T) -> Self {
                Self(core::ptr::from_ref(value).cast::<()>().expose_provenance() as $word)
            }

            /// The handle of a value that the callee writes.
            pub fn of_mut<T: ?Sized>(value: &mut T) -> Self {
                Self(core::ptr::from_mut(value).cast::<()>().expose_provenance() as $word)
            }

            /// Whether the handle is null.
            #[must_use]
            pub const fn is_null(self) -> bool {
                self.0 == 0
            }

            /// The handle `bytes` further on; `None` beyond the end of the address space.
            #[must_use]
            pub const fn offset(self, bytes: $word) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(address) => Some(Self(address)),
                    None => None,
                }
            }
        }
    };
}

handle! {
    /// A virtual address in the caller's address space (`XEN_GUEST_HANDLE`; `XEN_GUEST_HANDLE_64`, which the control
    /// ABI uses in both widths). It is a claim, not a reference: the hypervisor copies through it and never
    /// dereferences it.
    GuestHandle64, u64
}

handle! {
    /// A virtual address in the address space of a narrow guest (`XEN_GUEST_HANDLE` there).
    GuestHandle32, u32
}

#[cfg(target_pointer_width = "64")]
impl crate::Form for GuestHandle64 {
    type Narrow = GuestHandle32;
    const SAME: bool = false;
    fn widen(narrow: GuestHandle32) -> Self {
        Self(narrow.0.into())
    }
    fn narrow(&self) -> GuestHandle32 {
        GuestHandle32(self.0 as u32)
    }
}

#[cfg(target_pointer_width = "32")]
same_form!(GuestHandle64);
same_form!(GuestHandle32);
