//! What each frame may be used as: the heart of a hypervisor with direct paging. Guests own their page tables,
//! and the CPU walks these tables as they are. Therefore the core validates every entry before the CPU can use
//! it, and counts what it refers to (ADR 6).
//!
//! *Two counts.* A frame has **references**, as long as which it stays its owner's, and **type references**,
//! as long as which it keeps its [`PageType`]. Types exclude each other: a frame that is mapped writable
//! can't become a page table, and a page table can't be mapped writable. Each present entry of a validated
//! table holds a reference to the frame that it names. It also holds a type reference if it lends a use of
//! the frame: a writable mapping holds one of [`PageType::Writable`], an entry of an L2 one of
//! [`PageType::L1`], and so on.
//!
//! *Validation.* The first type reference to a table validates the table's contents; when the last one is
//! dropped, the contents are invalidated. Both take long for large tables, so both can stop halfway. The
//! frame is then *partial*: its entries `0..progress` are validated, and it owns one reference of each kind
//! itself. The next CPU that wants the type continues from there. A CPU that stops while it takes a table
//! apart records the frame in a [`Work`], and continues in its next call. The destruction of the domain finds
//! the frame in any case.
//!
//! *One word.* Kind, type, flags and both counts change together, by compare-exchange of one word
//! ([`crate::mm::frame::State`]). A frame that has a type reference, but is neither validated nor partial, is
//! *busy*: exactly one CPU works on it, and other CPUs that want the same type wait. They never wait in a
//! circle, because a table waits only for tables of lower levels.
//!
//! *Stale translations.* When the last reference of a type is dropped, the frame is stamped with the time on
//! the flush clock. Before the frame takes another type, all CPUs have flushed their TLBs after that time.
//!
//! Everything is generic over [`Memory`]; [`machine()`] is the real machine's.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(any(test, feature = "audit"))]
pub mod audit;
mod both;
pub mod claims;
mod domain_pages;
pub mod emptied;
mod entry;
mod grant_pte;
mod l1;
pub mod l1tf;
pub mod ldt_pages;
mod leaving;
mod linear;
mod lists;
mod machine;
mod memory;
#[cfg(all(test, loom))]
mod models;
mod pin;
mod pte;
mod refs;
mod registry;
mod root;
mod segdesc;
mod shape;
mod teardown;
#[cfg(test)]
mod tests;
mod typed;
mod upper;
mod validate;
mod walk;
pub mod window;
mod work;

pub use domain_pages::{Charge, DomainPages, NoRoom};
pub use entry::{HeldTable, Keep, Update};
pub use grant_pte::{EntryAt, Lent};
pub use machine::{Machine, give_device_rights, machine};
pub use memory::{IoAccess, Memory};
pub use pte::Pte;
pub use refs::PageRef;
pub use registry::{forget, register, registered};
pub use root::GuestRoot;
pub use segdesc::check_descriptor;
pub use work::Work;

/// The use of a frame. The number of a page table's type is its level, except for [`Self::L2Last`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u64)]
pub enum PageType {
    /// No particular use: the frame may only be read.
    None = 0,
    /// An L1 page table.
    L1 = 1,
    /// An L2 page table.
    L2 = 2,
    /// An L3 page table.
    L3 = 3,
    /// An L4 page table, the root.
    L4 = 4,
    /// The L2 page table for the last GiB of a narrow guest's 4 GiB, in which the hypervisor has entries.
    L2Last = 5,
    /// A page of segment descriptors, of a GDT or an LDT.
    SegDesc = 6,
    /// Mapped writable, or written by the hypervisor on behalf of a guest.
    Writable = 7,
}

impl PageType {
    /// Returns the type with this number.
    pub const fn from_bits(bits: u64) -> Self {
        match bits {
            1 => Self::L1,
            2 => Self::L2,
            3 => Self::L3,
            4 => Self::L4,
            5 => Self::L2Last,
            6 => Self::SegDesc,
            7 => Self::Writable,
            _ => Self::None,
        }
    }
    /// Returns the type of a page table of this level, 1 to 4.
    pub const fn table(level: u32) -> Option<Self> {
        match level {
            1 => Some(Self::L1),
            2 => Some(Self::L2),
            3 => Some(Self::L3),
            4 => Some(Self::L4),
            _ => None,
        }
    }
    /// Returns the level, if the type is a page table's.
    pub const fn level(self) -> Option<u32> {
        match self {
            Self::L1 => Some(1),
            Self::L2 | Self::L2Last => Some(2),
            Self::L3 => Some(3),
            Self::L4 => Some(4),
            _ => None,
        }
    }
}

/// Why an operation was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The table isn't the domain's, or the entry's type, flags or index break a rule (EINVAL).
    Invalid,
    /// The frame to map has a use that excludes the requested one, or isn't the named domain's (EBUSY).
    Busy,
    /// The domain has no right to this I/O memory (EPERM).
    NotPermitted,
    /// Not an error: the operation takes too long. Repeat it with the same arguments, and it continues.
    Again,
}

/// Whether references have been taken apart completely.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// The operation is complete.
    Done,
    /// Some work is left. The frame is partial and recorded in the [`Work`].
    Again,
}

/// The rules, for the frames of some memory.
#[derive(Debug)]
pub struct Types<M>(pub M);
