//! The root of a guest's address space, as the guest has named it. The CPU may run on another
//! table, see [`crate::arch::cr3::RunRoot`].

use core::num::NonZeroU64;

use super::{Machine, PageType, Progress, Refused, Types, Work};
use crate::kit::{DomId, Maddr, Mfn};
use crate::mm::SharedPage;
use crate::mm::frame::State;

/// A reference and a type reference to a guest's L4, which keep it a validated L4.
/// Dropped by [`Types::put_root`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "its references have to be given back"]
pub struct GuestRoot(NonZeroU64);

impl GuestRoot {
    /// Returns the machine address of the table.
    pub const fn maddr(&self) -> Maddr {
        Maddr(self.0.get())
    }

    /// Returns the frame of the table.
    pub const fn mfn(&self) -> Mfn {
        self.maddr().mfn()
    }

    /// Returns the contents of the table. The references keep its type, so its state need not be read, and the
    /// result is never `None`.
    #[inline]
    pub(super) fn page(&self) -> Option<SharedPage> {
        SharedPage::of_typed(
            self.mfn(),
            State((PageType::L4 as u64) << State::TYPE_SHIFT),
        )
    }

    /// For tests: the root of an L4 that stays pinned longer than this value lives.
    #[cfg(test)]
    pub fn of_pinned(l4: Mfn) -> Self {
        Self(NonZeroU64::new(l4.maddr().0).unwrap())
    }
}

impl Types<Machine> {
    /// Takes references to a frame of `owner` as the root of an address space
    /// (MMUEXT_NEW_BASEPTR, MMUEXT_NEW_USER_BASEPTR).
    pub fn get_root(&self, l4: Mfn, owner: DomId, work: &mut Work) -> Result<GuestRoot, Refused> {
        // The frame at address 0 belongs to no guest.
        let root = NonZeroU64::new(l4.maddr().0).ok_or(Refused::Invalid)?;
        self.get_page_and_type(l4, owner, PageType::L4, work)?;
        Ok(GuestRoot(root))
    }

    /// Drops the references of a root, which no CPU may have in CR3 any more. They are dropped in any case;
    /// [`Progress::Again`] means that some work is left.
    pub fn put_root(&self, root: GuestRoot, work: &mut Work) -> Progress {
        self.put_page_and_type(root.mfn(), work)
    }
}
