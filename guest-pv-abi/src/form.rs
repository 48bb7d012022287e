//! The two widths of the ABI: what a 64-bit guest and a 32-bit guest pass for the same structure.
//!
//! A 32-bit (*narrow*) guest has 4-byte longs, frame numbers and guest handles, and aligns 64-bit fields at 4 bytes. A
//! structure that differs is declared once, by `two_widths!`, which makes the wide structure and its narrow form.
//! [`Form`] converts between the two, so that code decodes a call of either width into the wide structure.

#![cfg_attr(
    target_pointer_width = "32",
    expect(dead_code, reason = "a narrow guest has its own form only")
)]

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Width of a guest's kernel, and therefore of the structures that it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 64-bit: kernel and user mode in ring 3.
    Wide,
    /// 32-bit with PAE: kernel in ring 1, user mode in ring 3.
    Narrow,
}

/// A structure of the ABI and its form in the memory of a narrow guest.
///
/// Widening extends with zeros. Narrowing truncates: code that returns a value that may not fit (a frame number above
/// 2^32, say) checks it first and returns the call's error. Padding that one form lacks is zero in the other.
pub trait Form: FromBytes + IntoBytes + Immutable + Sized {
    /// The layout that a narrow guest uses.
    type Narrow: FromBytes + IntoBytes + Immutable;
    /// Whether the narrow layout is this one.
    const SAME: bool;
    /// Converts from the layout of a narrow guest.
    fn widen(narrow: Self::Narrow) -> Self;
    /// Converts to the layout of a narrow guest; values that don't fit are truncated.
    fn narrow(&self) -> Self::Narrow;
    /// Size in bytes in the memory of a guest of that width.
    #[must_use]
    fn size(width: Width) -> usize {
        match width {
            Width::Wide => size_of::<Self>(),
            Width::Narrow => size_of::<Self::Narrow>(),
        }
    }
}

/// Implements [`Form`] for types whose layout is the same in both widths.
macro_rules! same_form {
    ($($name:ty),*) => { $(
        impl $crate::Form for $name {
            type Narrow = Self;
            const SAME: bool = true;
            fn widen(narrow: Self) -> Self {
                narrow
            }
            fn narrow(&self) -> Self {
                *self
            }
        }
    )* };
}

same_form!(u8, u16, u32, u64, i8, i16, i32, i64);

impl<T: Form, const N: usize> Form for [T; N] {
    type Narrow = [T::Narrow; N];
    const SAME: bool = T::SAME;
    fn widen(narrow: Self::Narrow) -> Self {
        narrow.map(T::widen)
    }
    fn narrow(&self) -> Self::Narrow {
        self.each_ref().map(T::narrow)
    }
}

/// A field whose narrow type is `N`, where [`Form`] doesn't say it: longs and padding.
pub(crate) trait FormAs<N> {
    /// Converts from the narrow type.
    fn widen_from(narrow: N) -> Self;
    /// Converts to the narrow type.
    fn narrow_to(&self) -> N;
}

/// `unsigned long` and `xen_pfn_t`.
impl FormAs<u32> for u64 {
    fn widen_from(narrow: u32) -> Self {
        narrow.into()
    }
    fn narrow_to(&self) -> u32 {
        *self as u32
    }
}

/// Arrays of `unsigned long`.
impl<const N: usize> FormAs<[u32; N]> for [u64; N] {
    fn widen_from(narrow: [u32; N]) -> Self {
        narrow.map(Into::into)
    }
    fn narrow_to(&self) -> [u32; N] {
        self.map(|word| word as u32)
    }
}

/// A union of a pointer and a 64-bit word, of which a narrow guest defines the low half alone.
impl FormAs<[u32; 2]> for u64 {
    fn widen_from([low, _]: [u32; 2]) -> Self {
        low.into()
    }
    fn narrow_to(&self) -> [u32; 2] {
        [*self as u32, 0]
    }
}

/// Padding and unions.
impl<const N: usize, const M: usize> FormAs<[u8; M]> for [u8; N] {
    fn widen_from(narrow: [u8; M]) -> Self {
        same_bytes(&narrow)
    }
    fn narrow_to(&self) -> [u8; M] {
        same_bytes(self)
    }
}

/// Implements [`FormAs`] for fields that are the same memory in both widths, of which one is shorter.
macro_rules! same_bytes_as {
    ($($wide:ty => $narrow:ty;)*) => { $(
        impl $crate::form::FormAs<$narrow> for $wide {
            fn widen_from(narrow: $narrow) -> Self {
                $crate::form::same_bytes(&narrow)
            }
            fn narrow_to(&self) -> $narrow {
                $crate::form::same_bytes(self)
            }
        }
    )* };
}

same_bytes_as! {
    u32 => [u32; 0];
    [u32; 0] => u32;
    [u64; 2] => [u32; 3];
    [u64; 64] => [u32; 32];
}

/// The value whose bytes are those of `from`, cut off or filled up with zeros.
pub(crate) fn same_bytes<A, B>(from: &A) -> B
where
    A: IntoBytes + Immutable,
    B: FromBytes + IntoBytes,
{
    let mut to = B::new_zeroed();
    for (to, from) in to.as_mut_bytes().iter_mut().zip(from.as_bytes()) {
        *to = *from;
    }
    to
}

/// Declares a structure that differs between the widths. A field whose narrow type isn't that of its [`Form`] names it
/// after `=>`; padding that the narrow structure doesn't have is `[u8; 0]` there.
///
/// On a 64-bit target the name is that of the wide structure, and `Form::Narrow` is the narrow one. On a 32-bit target
/// the name is that of the narrow structure.
macro_rules! two_widths {
    ($(#[$meta:meta])* pub struct $name:ident { $($fields:tt)* }) => {
        $crate::form::two_widths! { @fields [$(#[$meta])* $name] [] $($fields)* }
    };
    (@fields $head:tt [$($done:tt)*]
        $(#[$meta:meta])* pub $field:ident: $wide:ty => $narrow:ty, $($rest:tt)*
    ) => {
        $crate::form::two_widths! {
            @fields $head
            [$($done)* { [$(#[$meta])*] $field, $wide, $narrow, $narrow, [FormAs<$narrow>], widen_from, narrow_to }] $($rest)*
        }
    };
    (@fields $head:tt [$($done:tt)*] $(#[$meta:meta])* pub $field:ident: $type:ty, $($rest:tt)*) => {
        $crate::form::two_widths! {
            @fields $head
            [$($done)* { [$(#[$meta])*] $field, $type, <$type as Form>::Narrow, $type, [Form], widen, narrow }] $($rest)*
        }
    };
    (@fields [$(#[$meta:meta])* $name:ident] [$({
        [$(#[$field_meta:meta])*] $field:ident, $wide:ty, $narrow:ty, $own:ty, [$($form:tt)*],
        $widen:ident, $back:ident
    })*]) => {
        #[cfg(target_pointer_width = "64")]
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $wide,)*
        }

        #[cfg(target_pointer_width = "32")]
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $own,)*
        }

        #[cfg(target_pointer_width = "32")]
        $crate::form::same_form!($name);

        #[cfg(target_pointer_width = "64")]
        const _: () = {
            use $crate::form::Form;

            // Not the narrow structure, which has the same name.
            type Wide = self::$name;

            /// The narrow form.
            $(#[$meta])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
            #[repr(C, packed(4))]
            pub struct $name {
                $($(#[$field_meta])* pub $field: $narrow,)*
            }

            impl Default for $name {
                /// A value whose bytes are all zero.
                fn default() -> Self {
                    zerocopy::FromZeros::new_zeroed()
                }
            }

            impl Form for Wide {
                type Narrow = $name;
                const SAME: bool = false;
                fn widen(narrow: $name) -> Self {
                    Self { $($field: <$wide as $crate::form::$($form)*>::$widen(narrow.$field)),* }
                }
                fn narrow(&self) -> $name {
                    $name { $($field: <$wide as $crate::form::$($form)*>::$back(&self.$field)),* }
                }
            }
        };
    };
}

pub(crate) use {same_bytes_as, same_form, two_widths};

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::{Form, Width};
    use crate::arch_x86::{CpuUserRegs, VcpuGuestContext};
    use crate::callback::CallbackRegister;
    use crate::memory::{MemoryExchange, MemoryReservation};
    use crate::xen::SharedInfo;
    use crate::{GuestHandle, narrow};

    #[test]
    fn narrow_and_back_keeps_what_fits() {
        let exchange = MemoryExchange {
            in_: MemoryReservation {
                extent_start: GuestHandle(0xf57f_f000),
                nr_extents: 7,
                domid: 0x7ff0,
                ..Default::default()
            },
            nr_exchanged: 0x1_0000_0003,
            ..Default::default()
        };
        let back = MemoryExchange::widen(exchange.narrow());
        assert_eq!(back.in_, exchange.in_);
        assert_eq!(back.nr_exchanged, 3);
        assert_eq!(MemoryExchange::size(Width::Narrow), 44);
        assert_eq!(MemoryExchange::size(Width::Wide), 72);
    }

    #[test]
    fn port_bits_stay_in_their_bytes() {
        let mut info = SharedInfo::default();
        info.evtchn_pending[0] = 1 << 40;
        let narrow = info.narrow();
        assert_eq!(narrow.evtchn_pending[1], 1 << 8);
        assert_eq!(SharedInfo::widen(narrow).evtchn_pending[0], 1 << 40);
    }

    #[test]
    fn a_callback_is_selector_and_offset_in_one_word() {
        let callback = narrow::CallbackRegister {
            address: narrow::Callback {
                cs: 0xe019,
                eip: 0xc010_0000,
            },
            ..Default::default()
        };
        let wide = CallbackRegister::widen(callback);
        assert_eq!(wide.address, 0xe019_c010_0000);
        assert_eq!(wide.narrow(), callback);
    }

    #[test]
    fn a_context_keeps_its_registers() {
        let context = VcpuGuestContext {
            user_regs: CpuUserRegs {
                rip: 0xc000_0000,
                rsi: 5,
                cs: 0xe019,
                ..Default::default()
            },
            event_callback_eip: 0xe019_c010_0000,
            ..Default::default()
        };
        assert_eq!(VcpuGuestContext::widen(context.narrow()), context);
    }
}
