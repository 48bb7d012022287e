//! The shared page of the PV console.
//!
//! Source: Xen's public header `io/console.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::layout;

/// The console ring. The guest reads from `in_` and writes to `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ConsInterface {
    /// Bytes to the guest.
    pub in_: [u8; 1024],
    /// Bytes from the guest.
    pub out: [u8; 2048],
    /// Written by the guest.
    pub in_cons: u32,
    /// Written by the console daemon.
    pub in_prod: u32,
    /// Written by the console daemon.
    pub out_cons: u32,
    /// Written by the guest.
    pub out_prod: u32,
}

layout! { ConsInterface = "struct xencons_interface", 3088;
    in_ 0 "in", out 1024, in_cons 3072, in_prod 3076, out_cons 3080, out_prod 3084
}
