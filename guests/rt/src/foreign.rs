//! Other domains' memory, for a control domain.

#![expect(unsafe_code, reason = "makes slices and atomics of mapped frames")]

use core::sync::atomic::{AtomicU8, AtomicU32};

use guest_pv_abi::Errno;

use crate::memory::PAGE_BYTES;
use crate::paging::{Access, Window};

/// A place where frames of another domain are mapped for a while, again and again.
#[derive(Debug)]
pub struct Place {
    window: Window,
}

impl Place {
    /// A place for so many frames.
    ///
    /// # Errors
    /// ENOMEM when the addresses are used up.
    pub fn new(frames: u64) -> Result<Self, Errno> {
        Window::reserve(frames).map(|window| Self { window })
    }

    /// Maps machine frames of `domain` while `access` runs. A domain that runs meanwhile may change the
    /// bytes at any time: build with this, but share by [`SharedPage`].
    ///
    /// # Errors
    /// What the hypervisor answers; EINVAL for more frames than there is room for.
    pub fn with(
        &mut self,
        domain: u16,
        frames: &[u64],
        access: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno> {
        let mapped = self.window.map_in(frames, domain, Access::ReadWrite);
        if mapped.is_ok() {
            let bytes = frames.len() * PAGE_BYTES;
            // SAFETY: so many bytes are mapped there writable, and this place is borrowed mutably.
            access(unsafe { core::slice::from_raw_parts_mut(self.window.as_ptr(), bytes) });
        }
        self.window.unmap_first(frames.len() as u64);
        mapped
    }

    /// The same for frames that may only be read.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn read(
        &mut self,
        domain: u16,
        frames: &[u64],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Errno> {
        let mapped = self.window.map_in(frames, domain, Access::ReadOnly);
        if mapped.is_ok() {
            let bytes = frames.len() * PAGE_BYTES;
            // SAFETY: so many bytes are mapped there, and this place is borrowed mutably.
            look(unsafe { core::slice::from_raw_parts(self.window.as_ptr(), bytes) });
        }
        self.window.unmap_first(frames.len() as u64);
        mapped
    }
}

/// A frame that another domain uses at the same time; its bytes are atomics.
#[derive(Debug)]
pub struct SharedPage {
    window: Window,
}

impl SharedPage {
    /// Maps a machine frame of `domain`.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn map(domain: u16, frame: u64) -> Result<Self, Errno> {
        Window::map(&[frame], domain, Access::ReadWrite).map(|window| Self { window })
    }

    /// The bytes from `offset` on, as many as lie in the page.
    #[must_use]
    pub fn bytes(&self, offset: usize, count: usize) -> &[AtomicU8] {
        let start = offset.min(PAGE_BYTES);
        let count = count.min(PAGE_BYTES - start);
        let first = self.window.as_ptr().wrapping_add(start).cast::<AtomicU8>();
        // SAFETY: the range lies in the mapped page; atomics may change at any time.
        unsafe { core::slice::from_raw_parts(first, count) }
    }

    /// The word at `offset`.
    ///
    /// # Panics
    /// If it is not aligned or not in the page.
    #[must_use]
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4) && offset < PAGE_BYTES,
            "no word at {offset}"
        );
        // SAFETY: an aligned word of the mapped page, see `bytes`.
        unsafe {
            &*self
                .window
                .as_ptr()
                .wrapping_add(offset)
                .cast::<AtomicU32>()
        }
    }
}
