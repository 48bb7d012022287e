//! The unions of the control ABI, represented as words.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

#[cfg(target_pointer_width = "64")]
use crate::form::same_bytes_as;
use crate::{Form, Width};

/// A union of `N` words, read and written as the structure that the sub-operation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Payload<const N: usize, W = u64>([W; N]);

impl<const N: usize, W: FromBytes> Default for Payload<N, W> {
    /// A union whose words are all zero.
    fn default() -> Self {
        Self(<[W; N]>::new_zeroed())
    }
}

impl<const N: usize, W: FromBytes + IntoBytes + Immutable> Payload<N, W> {
    /// A union that holds `body`; its other bytes are zero.
    pub fn of<T: IntoBytes + Immutable>(body: &T) -> Self {
        let mut payload = Self::default();
        payload.set(body);
        payload
    }

    /// Reads the union as a `T`.
    #[must_use]
    pub fn get<T: FromBytes>(&self) -> T {
        const {
            assert!(
                size_of::<T>() <= N * size_of::<W>(),
                "not an arm of this union"
            )
        };
        match T::read_from_prefix(self.0.as_bytes()) {
            Ok((body, _)) => body,
            Err(_) => T::new_zeroed(),
        }
    }

    /// Writes `body` at the start of the union and keeps the other bytes.
    pub fn set<T: IntoBytes + Immutable>(&mut self, body: &T) {
        const {
            assert!(
                size_of::<T>() <= N * size_of::<W>(),
                "not an arm of this union"
            )
        };
        let bytes = body.as_bytes();
        if let Some(start) = self.0.as_mut_bytes().get_mut(..bytes.len()) {
            start.copy_from_slice(bytes);
        }
    }

    /// Reads the union as the form of `T` that a guest of that width uses.
    #[must_use]
    pub fn get_form<T: Form>(&self, width: Width) -> T {
        match width {
            Width::Wide => self.get(),
            Width::Narrow => T::widen(self.get()),
        }
    }

    /// Writes the form of `body` that a guest of that width uses, and keeps the other bytes.
    pub fn set_form<T: Form>(&mut self, body: &T, width: Width) {
        match width {
            Width::Wide => self.set(body),
            Width::Narrow => self.set(&body.narrow()),
        }
    }

    /// The words of the union.
    #[must_use]
    pub const fn words(&self) -> &[W; N] {
        &self.0
    }
}

/// The bytes; which structure they hold, and in which width, is for the caller to know.
impl<const N: usize> Form for Payload<N> {
    type Narrow = Self;
    const SAME: bool = true;
    fn widen(narrow: Self) -> Self {
        narrow
    }
    fn narrow(&self) -> Self {
        *self
    }
}

#[cfg(target_pointer_width = "64")]
same_bytes_as! { Payload<4> => Payload<7, u32>; }

#[cfg(test)]
mod tests {
    use super::Payload;
    use crate::domctl::MaxMem;

    #[test]
    fn an_arm_survives_and_the_rest_stays() {
        let mut payload = Payload::<2>::of(&[1u64, 2]);
        payload.set(&MaxMem { max_memkb: 7 });
        assert_eq!(payload.get::<MaxMem>().max_memkb, 7);
        assert_eq!(payload.words(), &[7, 2]);
    }
}
