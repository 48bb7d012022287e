//! Index arithmetic of the rings that front ends and back ends share.
//!
//! Source: Xen's public header `io/ring.h`. A ring is a 64-byte header (request and response producer and event
//! indices) and a power of two of entries of one size. Indices wrap at 32 bits.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::layout;

/// The header of a shared ring page, before the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RingHeader {
    /// Requests produced by the front end.
    pub req_prod: u32,
    /// The back end wants a notification when `req_prod` passes this.
    pub req_event: u32,
    /// Responses produced by the back end.
    pub rsp_prod: u32,
    /// The front end wants a notification when `rsp_prod` passes this.
    pub rsp_event: u32,
    /// Data private to the protocol, then padding.
    pub pad: [u8; 48],
}

layout! { RingHeader = "", 64; req_prod 0, req_event 4, rsp_prod 8, rsp_event 12, pad 16 }

/// Number of entries in a ring of `ring_bytes` with entries of `entry_bytes`: the largest power of two that fits.
#[must_use]
pub const fn ring_entries(ring_bytes: usize, entry_bytes: usize) -> usize {
    let room = ring_bytes.saturating_sub(size_of::<RingHeader>());
    match room.checked_div(entry_bytes) {
        None | Some(0) => 0,
        Some(entries) => 1 << entries.ilog2(),
    }
}

/// Whether a producer that moved its index from `old` to `new` must notify a consumer whose event index is `event`.
#[must_use]
pub const fn must_notify(old: u32, new: u32, event: u32) -> bool {
    // The event index is in (old, new], with wrap-around: the producer has just passed it.
    new.wrapping_sub(event) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::{must_notify, ring_entries};

    #[test]
    fn entries_are_a_power_of_two() {
        assert_eq!(ring_entries(4096, 112), 32);
        assert_eq!(ring_entries(4096, 8), 256);
        assert_eq!(ring_entries(64, 8), 0);
        assert_eq!(ring_entries(4096, 0), 0);
    }

    #[test]
    fn notification_when_the_event_index_is_passed() {
        assert!(must_notify(3, 4, 4));
        assert!(!must_notify(3, 4, 5));
        assert!(!must_notify(4, 5, 4));
        assert!(must_notify(u32::MAX, 0, 0));
    }
}
