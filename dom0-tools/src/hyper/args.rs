//! Copies the structures of a call into the arena, and reads the results back.

use guest_pv_abi::{Errno, GuestHandle, errno};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Hypercalls;

/// The place of a structure in the arena.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    start: usize,
    len: usize,
    /// The address that the hypervisor gets.
    pub(super) handle: GuestHandle,
}

/// The arguments of one call.
pub(super) struct Args<'h, H: Hypercalls + ?Sized> {
    hypercalls: &'h mut H,
    used: usize,
}

impl<'h, H: Hypercalls + ?Sized> Args<'h, H> {
    pub(super) fn new(hypercalls: &'h mut H) -> Self {
        Args {
            hypercalls,
            used: 0,
        }
    }

    /// Reserves `len` zeroed bytes.
    pub(super) fn room(&mut self, len: usize) -> Result<Place, Errno> {
        let arena = self.hypercalls.arena();
        let start = self.used.next_multiple_of(16);
        let end = start.checked_add(len).ok_or(errno::ENOMEM)?;
        arena
            .bytes
            .get_mut(start..end)
            .ok_or(errno::ENOMEM)?
            .fill(0);
        self.used = end;
        let handle = GuestHandle(arena.address + start as u64);
        Ok(Place { start, len, handle })
    }

    /// Copies a structure or an array into the arena.
    pub(super) fn put<T: IntoBytes + Immutable + ?Sized>(
        &mut self,
        value: &T,
    ) -> Result<Place, Errno> {
        let bytes = value.as_bytes();
        let place = self.room(bytes.len())?;
        self.bytes(place).copy_from_slice(bytes);
        Ok(place)
    }

    /// The bytes of a place.
    pub(super) fn bytes(&mut self, place: Place) -> &mut [u8] {
        let bytes = self.hypercalls.arena().bytes;
        bytes
            .get_mut(place.start..place.start + place.len)
            .unwrap_or_default()
    }

    /// Reads a structure from the start of a place.
    pub(super) fn get<T: FromBytes>(&mut self, place: Place) -> T {
        match T::read_from_prefix(self.bytes(place)) {
            Ok((value, _)) => value,
            Err(_) => T::new_zeroed(),
        }
    }

    pub(super) fn call(&mut self, number: u64, args: [u64; 5]) -> Result<u64, Errno> {
        self.hypercalls.call(number, args)
    }
}
