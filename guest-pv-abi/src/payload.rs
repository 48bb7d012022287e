//! The unions of the control ABI, represented as words.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A union of `N` 64-bit words, read and written as the structure that the sub-operation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Payload<const N: usize>([u64; N]);

impl<const N: usize> Default for Payload<N> {
    /// A union whose words are all zero.
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Payload<N> {
    /// A union that holds `body`; its other bytes are zero.
    pub fn of<T: IntoBytes + Immutable>(body: &T) -> Self {
        let mut payload = Self::default();
        payload.set(body);
        payload
    }

    /// Reads the union as a `T`.
    #[must_use]
    pub fn get<T: FromBytes>(&self) -> T {
        const { assert!(size_of::<T>() <= N * 8, "not an arm of this union") };
        match T::read_from_prefix(self.0.as_bytes()) {
            Ok((body, _)) => body,
            Err(_) => T::new_zeroed(),
        }
    }

    /// Writes `body` at the start of the union and keeps the other bytes.
    pub fn set<T: IntoBytes + Immutable>(&mut self, body: &T) {
        const { assert!(size_of::<T>() <= N * 8, "not an arm of this union") };
        let bytes = body.as_bytes();
        if let Some(start) = self.0.as_mut_bytes().get_mut(..bytes.len()) {
            start.copy_from_slice(bytes);
        }
    }

    /// The words of the union.
    #[must_use]
    pub const fn words(&self) -> &[u64; N] {
        &self.0
    }
}

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
