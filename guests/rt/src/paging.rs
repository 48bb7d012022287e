//! Mappings that come and go: [`Window`]s for other domains' frames and for devices, and the heap's large blocks. The
//! tables below them are in `tables`, whose items are public here.

#![expect(unsafe_code, reason = "maps frames at addresses of its own")]

use guest_pv_abi::xen::DOMID_SELF;
use guest_pv_abi::{Errno, Long, errno};

use crate::arch::{WINDOWS_END, WINDOWS_START, from_long};
use crate::frames::PAGE_BYTES;
use crate::memory;
use crate::sync::Lock;
use crate::tables::{Source, clear, ensure_table, kernel_root, set_range};

pub use crate::tables::{
    ACCESSED, Access, DIRTY, FRAME_MASK, LARGE, NO_EXECUTE, PRESENT, RAM_FLAGS, READ_ONLY_FLAGS,
    TABLE_FLAGS, USER, WRITABLE, entry_machine_address, entry_of, make_read_only, make_writable,
    set_entries,
};

/// A range of addresses for mapping machine frames. Dropping it unmaps them.
#[derive(Debug)]
pub struct Window {
    address: u64,
    pages: u64,
}

/// First window address that was never used. Single pages are reused, larger windows are not.
static NEXT_WINDOW: Lock<u64> = Lock::new(WINDOWS_START);
/// Addresses of single-page windows that were dropped.
static RETURNED: Lock<alloc::vec::Vec<u64>> = Lock::new(alloc::vec::Vec::new());

impl Window {
    /// Reserves addresses without mapping anything there.
    ///
    /// # Errors
    /// ENOMEM when the address range is used up.
    pub fn reserve(pages: u64) -> Result<Self, Errno> {
        let returned = if pages == 1 {
            RETURNED.lock().pop()
        } else {
            None
        };
        if let Some(address) = returned {
            return Ok(Self { address, pages });
        }
        let mut next = NEXT_WINDOW.lock();
        let address = *next;
        let bytes = pages.checked_mul(PAGE_BYTES as u64).ok_or(errno::ENOMEM)?;
        let end = address.checked_add(bytes).filter(|end| *end <= WINDOWS_END);
        *next = end.ok_or(errno::ENOMEM)?;
        Ok(Self { address, pages })
    }

    /// Maps machine frames of `owner`: `DOMID_SELF`, another domain (given the right to map its frames),
    /// `DOMID_IO` for devices, or `DOMID_XEN`.
    ///
    /// # Errors
    /// The errno that the hypervisor returned; ENOMEM.
    pub fn map(frames: &[u64], owner: u16, access: Access) -> Result<Self, Errno> {
        let window = Self::reserve(frames.len() as u64)?;
        window.map_in(frames, owner, access)?;
        Ok(window)
    }

    /// Maps machine frames at the start of the window.
    ///
    /// # Errors
    /// The errno that the hypervisor returned; EINVAL for more frames than the window has pages.
    pub fn map_in(&self, frames: &[u64], owner: u16, access: Access) -> Result<(), Errno> {
        let count = frames.len() as u64;
        if count > self.pages {
            return Err(errno::EINVAL);
        }
        let entry = |n: u64| Some((frames.get(n as usize)? << 12) | access.flags());
        let root = kernel_root();
        // SAFETY: only this window uses the addresses.
        unsafe { set_range(root, self.address, count, owner, &entry, &mut Free) }
    }

    /// Makes the page tables of the window's addresses, for a hypercall that writes the L1 entries
    /// itself (a grant mapping).
    ///
    /// # Errors
    /// ENOMEM, or the errno that the hypervisor returned.
    pub fn prepare(&self) -> Result<(), Errno> {
        let root = kernel_root();
        for n in 0..self.pages {
            ensure_table(root, self.address + n * PAGE_BYTES as u64, &mut Free)?;
        }
        Ok(())
    }

    /// Pointer to the window's first byte.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(self.address as usize)
    }

    /// Address of the window's first byte.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Length of the window in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.pages as usize * PAGE_BYTES
    }
}

impl Window {
    /// Unmaps the window's first `pages` pages; the addresses stay reserved.
    pub fn unmap_first(&self, pages: u64) {
        clear(self.address, pages.min(self.pages));
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.unmap_first(self.pages);
        if self.pages == 1 {
            RETURNED.lock().push(self.address);
        }
    }
}

/// Maps machine frames of this domain from `address` on.
///
/// # Safety
/// The caller is responsible for what the addresses map afterwards.
pub(crate) unsafe fn map_at(address: u64, frames: &[Long], access: Access) -> Result<(), Errno> {
    let entry = |n: u64| Some((from_long(*frames.get(n as usize)?) << 12) | access.flags());
    let (root, count) = (kernel_root(), frames.len() as u64);
    // SAFETY: the caller's promise.
    unsafe { set_range(root, address, count, DOMID_SELF, &entry, &mut Free) }
}

/// The domain's free pages, as tables of windows and large blocks.
pub(crate) struct Free;

impl Source for Free {
    fn take(&mut self) -> Option<u64> {
        Some(memory::allocate_page()?.expose_provenance() as u64)
    }

    fn put_back(&mut self, page: u64) {
        // SAFETY: `take` took the page from the free pages, and no table was made of it.
        unsafe { memory::free_page(core::ptr::with_exposed_provenance_mut(page as usize)) };
    }
}
