//! Windows on device registers and frame buffers, accessed with bounds checks and volatile instructions.
#![expect(unsafe_code, reason = "volatile accesses to device memory")]

use crate::kit::Vaddr;

/// A mapped range of device memory.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    base: u64,
    bytes: usize,
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty) => {
        /// Reads at a byte offset. Returns all ones outside the window or if misaligned, as an absent device would.
        #[inline]
        pub fn $read(&self, offset: usize) -> $type {
            match self.at::<$type>(offset) {
                // SAFETY: within the window and aligned; mapped by the promise of `new`.
                Some(at) => unsafe { at.read_volatile() },
                None => <$type>::MAX,
            }
        }
        /// Writes at a byte offset. Does nothing outside the window or if misaligned.
        #[inline]
        pub fn $write(&self, offset: usize, value: $type) {
            if let Some(at) = self.at::<$type>(offset) {
                // SAFETY: within the window and aligned; mapped by the promise of `new`.
                unsafe { at.write_volatile(value) };
            }
        }
    };
}

impl Window {
    /// The window of `bytes` at virtual address `base`.
    ///
    /// # Safety
    /// The range is mapped for good and writable, and is device memory, where no Rust object lies.
    pub const unsafe fn new(base: Vaddr, bytes: usize) -> Self {
        Self {
            base: base.0,
            bytes,
        }
    }
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let fits = offset
            .checked_add(size_of::<T>())
            .is_some_and(|end| end <= self.bytes);
        (fits && offset.is_multiple_of(size_of::<T>()))
            .then_some((self.base + offset as u64) as *mut T)
    }
    /// Writes 64-bit words from an aligned offset on; those beyond the window are dropped.
    #[inline]
    pub fn write_words(&self, offset: usize, words: impl Iterator<Item = u64>) {
        for (at, word) in (offset..).step_by(8).zip(words) {
            self.write64(at, word);
        }
    }
    /// Sets all bytes of the window to 0.
    pub fn clear(&self) {
        // SAFETY: within the window, mapped by the promise of `new`. The order and width of the writes don't matter to
        // a frame buffer.
        unsafe { core::ptr::write_bytes(self.base as *mut u8, 0, self.bytes) };
    }
    access!(read8, write8, u8);
    access!(read16, write16, u16);
    access!(read32, write32, u32);
    access!(read64, write64, u64);
}
