//! What each frame may be used as: the heart of a hypervisor with direct paging. Guests own their
//! page tables and the machine walks them as they are; so the core looks at every entry before the
//! machine can, and keeps count.
//!
//! *Two counts.* A frame has **references**, which keep it its owner's, and **type references**,
//! which keep its [`PageType`]: as long as one is held, the type stays. Types exclude each other: a
//! frame that is mapped writable can't become a page table, a page table can't be mapped writable.
//! Each present entry of a validated table holds a reference of the frame it names, and a type
//! reference where the entry lends a use: a writable mapping [`PageType::Writable`], an entry of an
//! L2 [`PageType::L1`] and so on.
//!
//! *Validation.* The first reference of a table type validates the contents, the last one's end
//! devalidates it. Both are long for big tables, so both can stop half-way: the frame is then
//! *partial*, it has entries `0..progress` validated, and owns one reference of each sort itself.
//! Whoever wants the type next goes on from there; whoever was taking it apart notes the frame in a
//! [`Work`] and goes on in the next call; the destruction of the domain finds it in any case.
//!
//! *One word.* Kind, type, flags and both counts change by compare-exchange of one word
//! ([`crate::mm::frame::State`]). A frame with a type reference, not validated and not partial, is
//! *busy*: exactly one CPU works on it, and others that want the same type wait. They never wait in
//! a circle: a table waits for tables of lower levels only.
//!
//! *Stale translations.* When a type's last reference goes, the frame is stamped with the flush
//! clock; before it takes another type, all CPUs have flushed after that stamp.
//!
//! Everything is generic over [`Memory`]; [`machine`] is the real one.
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
mod entry;
mod grant_pte;
mod l1;
pub mod l1tf;
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
mod teardown;
#[cfg(test)]
mod tests;
mod typed;
mod upper;
mod validate;
mod walk;
mod work;

pub use domain_pages::{Charge, DomainPages, NoRoom};
pub use entry::{HeldTable, Keep, Update};
pub use grant_pte::{EntryAt, Lent, Write};
pub use machine::{Hooks, Machine, give_device_rights, machine, set_hooks};
pub use memory::{IoAccess, Memory};
pub use pte::Pte;
pub use refs::PageRef;
pub use registry::{forget, register, registered};
pub use root::GuestRoot;
pub use segdesc::check_descriptor;
pub use work::Work;

/// What a frame is used as. A page table's number is its level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u64)]
pub enum PageType {
    /// Nothing that needs care: only read.
    None = 0,
    /// An L1 page table.
    L1 = 1,
    /// An L2 page table.
    L2 = 2,
    /// An L3 page table.
    L3 = 3,
    /// An L4 page table, the root.
    L4 = 4,
    /// Segment descriptors: a page of a GDT or an LDT.
    SegDesc = 5,
    /// Mapped writable, or written by the hypervisor on somebody's word.
    Writable = 6,
}

impl PageType {
    /// The type with this number.
    pub const fn from_bits(bits: u64) -> Self {
        match bits {
            1 => Self::L1,
            2 => Self::L2,
            3 => Self::L3,
            4 => Self::L4,
            5 => Self::SegDesc,
            6 => Self::Writable,
            _ => Self::None,
        }
    }
    /// The page table type of a level, 1 to 4.
    pub const fn table(level: u32) -> Option<Self> {
        match level {
            1 => Some(Self::L1),
            2 => Some(Self::L2),
            3 => Some(Self::L3),
            4 => Some(Self::L4),
            _ => None,
        }
    }
    /// The level, if it is a page table.
    pub const fn level(self) -> Option<u32> {
        match self {
            Self::L1 => Some(1),
            Self::L2 => Some(2),
            Self::L3 => Some(3),
            Self::L4 => Some(4),
            _ => None,
        }
    }
}

/// Why something was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It breaks a rule: wrong owner, type, flags, index. -EINVAL.
    Invalid,
    /// The frame is in a use that excludes the one asked for, or is not that owner's. -EBUSY.
    Busy,
    /// I/O memory that the domain has no right to. -EPERM.
    NotPermitted,
    /// Not refused: it took too long. Ask again with the same words, and it goes on.
    Again,
}

/// Whether something that takes references apart is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// All done.
    Done,
    /// Some is left; the frame is partial and noted in the [`Work`].
    Again,
}

/// The rules, over some memory.
#[derive(Debug)]
pub struct Types<M>(pub M);
