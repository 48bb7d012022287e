//! The root of a guest's address space, as the guest named it. What a CPU runs on may be another table: see
//! [`crate::arch::cr3::RunRoot`].

use core::num::NonZeroU64;

use super::{Machine, PageType, Progress, Refused, Types, Work};
use crate::kit::{DomId, Maddr, Mfn};
use crate::mm::SharedPage;
use crate::mm::frame::State;

/// A reference and a type reference of a guest's L4, which keep it a validated L4. [`Types::put_root`] gives them back.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "its references have to be given back"]
pub struct GuestRoot(NonZeroU64);

impl GuestRoot {
    /// The address of the table.
    pub const fn maddr(&self) -> Maddr {
        Maddr(self.0.get())
    }

    /// The frame of the table.
    pub const fn mfn(&self) -> Mfn {
        self.maddr().mfn()
    }

    /// The table. As the references keep its type, its state need not be looked up; it is always there.
    #[inline]
    pub(super) fn page(&self) -> Option<SharedPage> {
        SharedPage::of_typed(
            self.mfn(),
            State((PageType::L4 as u64) << State::TYPE_SHIFT),
        )
    }

    /// For tests: of an L4 that stays pinned for longer than this lives.
    #[cfg(test)]
    pub fn of_pinned(l4: Mfn) -> Self {
        Self(NonZeroU64::new(l4.maddr().0).unwrap())
    }
}

impl Types<Machine> {
    /// Takes a frame of `owner` as the root of an address space (MMUEXT_NEW_BASEPTR, MMUEXT_NEW_USER_BASEPTR).
    pub fn get_root(&self, l4: Mfn, owner: DomId, work: &mut Work) -> Result<GuestRoot, Refused> {
        // The frame with the address 0 is no guest's.
        let root = NonZeroU64::new(l4.maddr().0).ok_or(Refused::Invalid)?;
        self.get_page_and_type(l4, owner, PageType::L4, work)?;
        Ok(GuestRoot(root))
    }

    /// Gives a root back, after no CPU has it in CR3 any more. It is given back in any case; [`Progress::Again`] says
    /// that some work is left.
    pub fn put_root(&self, root: GuestRoot, work: &mut Work) -> Progress {
        self.put_page_and_type(root.mfn(), work)
    }
}
