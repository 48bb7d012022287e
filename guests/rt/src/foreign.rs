//! Access to other domains' memory, for a control domain.

#![expect(unsafe_code, reason = "makes slices and atomics of mapped frames")]

use core::sync::atomic::{AtomicU8, AtomicU32};

use guest_pv_abi::Errno;

use crate::memory::PAGE_BYTES;
use crate::paging::{Access, Window};

/// A range of addresses at which frames of another domain can be mapped temporarily, any number of times.
#[derive(Debug)]
pub struct Place {
    window: Window,
}

impl Place {
    /// Reserves addresses for `frames` frames.
    ///
    /// # Errors
    /// ENOMEM when the address space is used up.
    pub fn new(frames: u64) -> Result<Self, Errno> {
        Window::reserve(frames).map(|window| Self { window })
    }

    /// Maps machine frames of `domain` while `access` runs. A running domain may change the bytes at any
    /// time, so use this to build a domain and [`SharedPage`] to share memory with it.
    ///
    /// # Errors
    /// The errno that the hypervisor returned; EINVAL for more frames than were reserved.
    pub fn with(
        &mut self,
        domain: u16,
        frames: &[u64],
        access: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno> {
        let mapped = self.window.map_in(frames, domain, Access::ReadWrite);
        if mapped.is_ok() {
            let bytes = frames.len() * PAGE_BYTES;
            // SAFETY: these bytes are mapped writable, and `self` is borrowed mutably.
            access(unsafe { core::slice::from_raw_parts_mut(self.window.as_ptr(), bytes) });
        }
        self.window.unmap_first(frames.len() as u64);
        mapped
    }

    /// Like [`Self::with`], but maps the frames read-only.
    ///
    /// # Errors
    /// As for [`Self::with`].
    pub fn read(
        &mut self,
        domain: u16,
        frames: &[u64],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Errno> {
        let mapped = self.window.map_in(frames, domain, Access::ReadOnly);
        if mapped.is_ok() {
            let bytes = frames.len() * PAGE_BYTES;
            // SAFETY: these bytes are mapped, and `self` is borrowed mutably.
            look(unsafe { core::slice::from_raw_parts(self.window.as_ptr(), bytes) });
        }
        self.window.unmap_first(frames.len() as u64);
        mapped
    }
}

/// A frame that another domain uses at the same time. Its bytes are accessed as atomics.
#[derive(Debug)]
pub struct SharedPage {
    window: Window,
}

impl SharedPage {
    /// Maps a machine frame of `domain`.
    ///
    /// # Errors
    /// The errno that the hypervisor returned.
    pub fn map(domain: u16, frame: u64) -> Result<Self, Errno> {
        Window::map(&[frame], domain, Access::ReadWrite).map(|window| Self { window })
    }

    /// `count` bytes from `offset` on, clipped to the end of the page.
    #[must_use]
    pub fn bytes(&self, offset: usize, count: usize) -> &[AtomicU8] {
        let start = offset.min(PAGE_BYTES);
        let count = count.min(PAGE_BYTES - start);
        let first = self.window.as_ptr().wrapping_add(start).cast::<AtomicU8>();
        // SAFETY: the range lies in the mapped page; as atomics, the bytes may change at any time.
        unsafe { core::slice::from_raw_parts(first, count) }
    }

    /// The 32-bit word at `offset`.
    ///
    /// # Panics
    /// If `offset` is not a multiple of 4 inside the page.
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
