//! The root of a guest's address space, as the guest has named it. The CPU may run on another
//! table, see [`crate::arch::cr3::RunRoot`].

use core::num::NonZeroU64;

use guest_pv_abi::Width;

use super::shape::Shape;
use super::{Memory, PageType, Progress, Refused, Types, Work};
use crate::kit::{DomId, Maddr, Mfn};
use crate::mm::SharedPage;
use crate::mm::frame::State;

/// A reference and a type reference to the L4 of a wide guest, or to the L3 of a narrow one, which keep it a validated
/// table. Dropped by [`Types::put_root`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "its references have to be given back"]
pub struct GuestRoot {
    width: Width,
    table: NonZeroU64,
}

impl GuestRoot {
    /// Returns the machine address of the table.
    pub const fn maddr(&self) -> Maddr {
        Maddr(self.table.get())
    }

    /// Returns the frame of the table.
    pub const fn mfn(&self) -> Mfn {
        self.maddr().mfn()
    }

    /// Returns the width of the guest.
    pub const fn width(&self) -> Width {
        self.width
    }

    /// Returns the machine address of the L4 of a wide guest. `None` for a narrow one's root.
    #[inline]
    pub const fn wide(&self) -> Option<Maddr> {
        match self.width {
            Width::Wide => Some(self.maddr()),
            Width::Narrow => None,
        }
    }

    /// Returns the type of the table.
    #[cfg(any(test, feature = "audit"))]
    pub const fn ty(&self) -> PageType {
        type_of(self.width)
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
        Self {
            width: Width::Wide,
            table: NonZeroU64::new(l4.maddr().0).unwrap(),
        }
    }
}

/// The type of the root of a guest of this width.
const fn type_of(width: Width) -> PageType {
    match width {
        Width::Wide => PageType::L4,
        Width::Narrow => PageType::L3,
    }
}

impl<M: Memory> Types<M> {
    /// Takes references to a frame of `owner` as the root of an address space
    /// (MMUEXT_NEW_BASEPTR, MMUEXT_NEW_USER_BASEPTR).
    pub fn get_root(&self, mfn: Mfn, owner: DomId, work: &mut Work) -> Result<GuestRoot, Refused> {
        // The frame at address 0 belongs to no guest.
        let table = NonZeroU64::new(mfn.maddr().0).ok_or(Refused::Invalid)?;
        let page = self.get_page(mfn, owner).ok_or(Refused::Invalid)?;
        // The reference keeps the frame its owner's, and so keeps the width in its state.
        let width = Shape::of(page.frame().load()).width();
        self.get_type(mfn, page.frame(), type_of(width), work)?;
        page.keep();
        Ok(GuestRoot { width, table })
    }

    /// Drops the references of a root, which no CPU may have in CR3 any more. They are dropped in any case;
    /// [`Progress::Again`] means that some work is left.
    pub fn put_root(&self, root: GuestRoot, work: &mut Work) -> Progress {
        self.put_page_and_type(root.mfn(), work)
    }
}
