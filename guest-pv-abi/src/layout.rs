//! The two macros that every header file uses: `numbers!` for constants, `layout!` for structures.
//!
//! Both keep the C spelling beside the Rust one, so that the test in `tests/` can compare every number, size and
//! offset with those that a C compiler finds in the headers.

/// A structure of the public headers: its C name, its size and the offsets of its fields.
pub trait AbiLayout {
    /// Name of the type in C, with `struct` where needed.
    const C_NAME: &'static str;
    /// Size of the structure in bytes.
    const SIZE: usize;
    /// C name (a path where the field lies in a union) and offset in bytes of each field.
    const FIELDS: &'static [(&'static str, usize)];
}

/// Declares constants of one header and one type, and a table of their C names.
macro_rules! numbers {
    ($table:ident, $header:literal, $type:ty; $($name:ident = $value:expr, $c_name:literal;)*) => {
        $(
            #[doc = concat!("`", $c_name, "` of `", $header, "`.")]
            pub const $name: $type = $value;
        )*
        #[doc = concat!("C name and value of each number from `", $header, "`, for the comparison with the header.")]
        pub const $table: &[(&str, i64)] = &[$(($c_name, $name as i64)),*];
    };
}

/// Asserts a structure's size and offsets, and implements `Default` with zeros.
///
/// After the size: nothing where both widths have this layout; `narrow` and the narrow size for a structure that
/// `two_widths!` declares; `wide` for a structure that implements [`crate::Form`] itself or has no narrow form.
macro_rules! layout {
    (@c $field:ident) => { stringify!($field) };
    (@c $field:ident $c_field:literal) => { $c_field };
    ($name:ident = $c_name:literal, $size:literal; $($fields:tt)*) => {
        layout! { $name = $c_name, $size, wide; $($fields)* }
        $crate::form::same_form!($name);
    };
    ($name:ident = $c_name:literal, $size:literal, narrow $narrow:literal;
        $($field:ident $offset:literal $($c_field:literal)?),*
    ) => {
        #[cfg(target_pointer_width = "64")]
        layout! { $name = $c_name, $size, wide; $($field $offset $($c_field)?),* }
        #[cfg(target_pointer_width = "32")]
        layout! { @zeros $name }
        layout! { @measured <$name as $crate::Form>::Narrow, $c_name, $narrow; $($field $($c_field)?),* }
    };
    (@measured $name:ty, $c_name:literal, $size:literal; $($field:ident $($c_field:literal)?),*) => {
        const _: () = assert!(size_of::<$name>() == $size);

        impl $crate::layout::AbiLayout for $name {
            const C_NAME: &'static str = $c_name;
            const SIZE: usize = $size;
            const FIELDS: &'static [(&'static str, usize)] =
                &[$((layout!(@c $field $($c_field)?), core::mem::offset_of!($name, $field))),*];
        }
    };
    (@zeros $name:ident) => {
        impl Default for $name {
            /// A value whose bytes are all zero.
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    };
    ($name:ident = $c_name:literal, $size:literal, wide;
        $($field:ident $offset:literal $($c_field:literal)?),*
    ) => {
        const _: () = {
            $(assert!(core::mem::offset_of!($name, $field) == $offset);)*
        };

        layout! { @zeros $name }
        layout! { @measured $name, $c_name, $size; $($field $($c_field)?),* }
    };
}

pub(crate) use {layout, numbers};
