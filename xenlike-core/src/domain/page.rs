//! A page that a domain shares with the hypervisor: it stays allocated for as long as the handle exists.

use crate::kit::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use super::Domain;
use crate::kit::{Gfn, PAGE_SIZE, SharedWords};
use crate::mm::directmap::SharedPage;
use crate::mm::{alloc, heap};
use crate::pagetype::{DomainPages, machine};

/// A frame of a guest to which the hypervisor writes at the guest's request, or a frame of the hypervisor.
pub struct HeldPage {
    page: SharedPage,
    /// Whether the handle owns a writable reference.
    guests: bool,
}

impl HeldPage {
    /// Takes a writable reference of a frame of `dom`.
    pub fn of_guest(dom: &Domain, gfn: Gfn) -> Option<Self> {
        let held = machine().get_writable(dom.resolve(gfn)?, dom.id())?;
        let page = SharedPage::new(held.mfn())?;
        held.keep();
        Some(Self { page, guests: true })
    }

    /// A page of the hypervisor that exists for longer than this handle.
    pub const fn of_core(page: SharedPage) -> Self {
        Self {
            page,
            guests: false,
        }
    }

    /// Allocates a page of zeros that the domain of `pages` may map. It is freed when this handle and the last mapping are
    /// gone.
    pub fn new_shared(pages: &DomainPages) -> Option<Self> {
        if !heap::can_grow(PAGE_SIZE as u64) {
            return None;
        }
        let mfn = alloc::alloc_frame(alloc::Where::ANY)?;
        let page = SharedPage::new(mfn)?;
        page.zero();
        machine().share(pages, mfn);
        Some(Self { page, guests: true })
    }

    /// Whether the frame has references other than this handle's, such as those of its mappings.
    pub fn is_used_elsewhere(&self) -> bool {
        machine().has_more_references(self.page.mfn())
    }

    /// Whether the handle owns a reference of the frame. For the audit.
    #[cfg(feature = "audit")]
    pub const fn is_counted(&self) -> bool {
        self.guests
    }

    /// Returns the page for access to its bytes.
    pub const fn page(&self) -> SharedPage {
        self.page
    }
}

impl Drop for HeldPage {
    fn drop(&mut self) {
        if self.guests {
            machine().put_simple(self.page.mfn());
        }
    }
}

impl SharedWords for HeldPage {
    fn u8(&self, offset: usize) -> Option<&AtomicU8> {
        self.page.u8(offset)
    }
    fn u16(&self, offset: usize) -> Option<&AtomicU16> {
        self.page.u16(offset)
    }
    fn u32(&self, offset: usize) -> Option<&AtomicU32> {
        self.page.u32(offset)
    }
    fn u64(&self, offset: usize) -> Option<&AtomicU64> {
        self.page.u64(offset)
    }
    fn zero(&self) {
        self.page.zero();
    }
}
