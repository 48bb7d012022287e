//! Grant tables: a domain lets another domain use single frames of its own.
//!
//! A [`Table`] has two halves. As a *granter*, a domain shares a table of entries with the hypervisor, which
//! counts the uses of each entry. As a *mapper*, a domain has handles on the entries of other domains that it
//! uses. Key types: [`Table`], [`MapRequest`], [`unmap::Unmapping`]. The trait [`Machine`] is what the rules need of
//! frames and page tables. Neighbours: `domain` owns a table behind an `Arc`; `hypercall::grant_table` decodes
//! requests, provides the machine and flushes TLBs; `life` ends both halves.
//!
//! Invariants:
//! - The readers and writers of an entry in use are exactly the handles on it and the copies under way.
//! - An entry in use has GTF_reading set, and also GTF_writing if it has writers, as long as the granter
//!   doesn't overwrite it. The granted frame is read from the entry only once, when the first use begins.
//! - What an entry in use grants doesn't change. Neither a store by the granter nor another version of the
//!   table turns a part of a page into a page, or a transitive grant into a frame.
//! - A handle has references of its frame, and a page-table entry that was made for it has others. The handle's
//!   references are dropped only after all CPUs that could use the translation have flushed it.
//! - A handle keeps the granter's table alive, so that it can be unmapped after the granter is gone.
//!
//! Lock order: the mapper's handles, then the granter's entries; never two locks of one kind.
#![warn(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

#[cfg(feature = "audit")]
pub mod audit;
mod copy;
mod entry;
mod handles;
mod machine;
mod map;
#[cfg(all(test, loom))]
mod models;
mod offer;
mod release;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;
mod transfer;
mod unmap;
mod version;

use guest_pv_abi::grant_table as abi;

pub use copy::{CopySide, HeldSide, Piece, copy, copy_held, hold, let_go};
pub use machine::{Access, HostAddr, Machine, PteBits, Space};
pub use map::{Device, MapRequest, Mapped};
pub use offer::{Offer, offer, set_offer};
pub use release::Sweep;
pub use table::{Limits, Table};
pub use unmap::UnmapRequest;
pub use version::{Refused, Version};

/// The number of handles that are allocated together, which Xen calls a maptrack frame.
pub const HANDLES_PER_FRAME: u32 = 256;

/// Why an operation on grants failed (`enum grant_status` in grant_table.h). 64 bits wide, so that a `Result`
/// with a frame number is returned in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum GrantError {
    /// The entry doesn't allow this operation, or changes too often (undefined error).
    General,
    /// There is no such domain.
    BadDomain,
    /// There is no such entry, or the request makes no sense.
    BadRef,
    /// There is no such handle.
    BadHandle,
    /// The grant can't be mapped at this address.
    BadVirtAddr,
    /// The frame can't be used in this way.
    BadPage,
    /// The copy would cross the end of a page.
    BadCopyArg,
    /// The caller may not do this.
    PermissionDenied,
    /// The entry is in use.
    Busy,
    /// There are no free handles.
    NoSpace,
    /// The grant is of a part of a page or transitive, but the operation needs a whole page. Guests get the
    /// status of [`Self::General`].
    NotWhole,
}

impl GrantError {
    /// Returns the status that the guest reads.
    pub const fn status(self) -> i16 {
        match self {
            Self::General | Self::NotWhole => abi::GNTST_GENERAL_ERROR,
            Self::BadDomain => abi::GNTST_BAD_DOMAIN,
            Self::BadRef => abi::GNTST_BAD_GNTREF,
            Self::BadHandle => abi::GNTST_BAD_HANDLE,
            Self::BadVirtAddr => abi::GNTST_BAD_VIRT_ADDR,
            Self::BadPage => abi::GNTST_BAD_PAGE,
            Self::BadCopyArg => abi::GNTST_BAD_COPY_ARG,
            Self::PermissionDenied => abi::GNTST_PERMISSION_DENIED,
            Self::Busy => abi::GNTST_EAGAIN,
            Self::NoSpace => abi::GNTST_NO_SPACE,
        }
    }
}
