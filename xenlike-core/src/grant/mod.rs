//! Grant tables: a domain lets another one use single frames of its own.
//!
//! A [`Table`] has two halves. As *granter* a domain shares a table of entries with the hypervisor,
//! and the hypervisor counts the uses of each entry. As *mapper* it holds handles on the entries of
//! others that it uses. Key types: [`Table`], [`MapRequest`], [`Unmapping`]; what the rules need of
//! frames and page tables is the trait [`Machine`]. Neighbours: `domain` owns a table behind an
//! `Arc`; `hypercall::grant_table` decodes, gives the machine and flushes; `life` ends both halves.
//!
//! Invariants:
//! - The readers and writers of an active entry are exactly the handles on it, and the copies under way.
//! - An entry with uses shows GTF_reading, one with writers GTF_writing, as long as the granter does
//!   not scribble on it; the granter's frame is taken from the entry once, at the first use.
//! - What an entry in use is for doesn't change: neither the granter's writing nor another version of the table
//!   turns a part of a page into a page, or a transitive grant into a frame.
//! - A handle holds references on its frame, and a page-table entry made for it holds others. The
//!   handle's go only after the CPUs that could use the translation have flushed it.
//! - A handle keeps the granter's table, so unmapping works when the granter is gone.
//!
//! Lock order: a mapper's handles, then a granter's entries; never two of one kind.
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
pub use machine::{Access, HostAddr, Machine, PteBits};
pub use map::{Device, MapRequest, Mapped};
pub use offer::{Offer, offer, set_offer};
pub use release::Sweep;
pub use table::{Limits, Table};
pub use unmap::UnmapRequest;
pub use version::{Refused, Version};

/// Handles that the hypervisor allocates together; what Xen calls a maptrack frame.
pub const HANDLES_PER_FRAME: u32 = 256;

/// Why an operation on grants failed (`enum grant_status` in grant_table.h). A word wide: a result with a
/// frame's number then comes back in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum GrantError {
    /// Undefined error: the entry does not allow this, or changes too fast.
    General,
    /// No such domain.
    BadDomain,
    /// No such entry, or a request that makes no sense.
    BadRef,
    /// No such handle.
    BadHandle,
    /// The address can't be mapped.
    BadVirtAddr,
    /// The frame is not one that may be used so.
    BadPage,
    /// A copy that leaves its page.
    BadCopyArg,
    /// The caller may not do this.
    PermissionDenied,
    /// The entry is in use.
    Busy,
    /// No handle is left.
    NoSpace,
    /// A part of a page, or a transitive grant, where only a whole page will do. Guests read it as
    /// [`Self::General`].
    NotWhole,
}

impl GrantError {
    /// The status that the guest reads.
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
