//! The door to pages that a guest shares with the hypervisor.

use crate::kit::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// A page that a guest reads and writes at any moment: only atomics, only inside its 4096 bytes. The
/// handle keeps the page from being freed or given another use; dropping it lets go.
pub trait SharedWords: Send + Sync {
    /// The byte at `offset`.
    fn u8(&self, offset: usize) -> Option<&AtomicU8>;
    /// The aligned 16-bit word at `offset`.
    fn u16(&self, offset: usize) -> Option<&AtomicU16>;
    /// The aligned 32-bit word at `offset`.
    fn u32(&self, offset: usize) -> Option<&AtomicU32>;
    /// The aligned 64-bit word at `offset`.
    fn u64(&self, offset: usize) -> Option<&AtomicU64>;
}

#[cfg(test)]
pub mod fake {
    //! A page shared with a guest, on the host.
    #![expect(
        unsafe_code,
        reason = "views of one memory as atomics of several widths"
    )]

    use crate::kit::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
    use alloc::sync::Arc;

    use super::SharedWords;

    /// 4096 bytes.
    #[repr(align(4096))]
    struct Bytes([AtomicU64; 512]);

    /// A handle on a page, as the guest and the hypervisor both have.
    #[derive(Clone)]
    pub struct FakePage(Arc<Bytes>);

    impl Default for FakePage {
        fn default() -> Self {
            Self::new()
        }
    }

    impl FakePage {
        /// A zeroed page.
        pub fn new() -> Self {
            Self(Arc::new(Bytes([const { AtomicU64::new(0) }; 512])))
        }
        /// Number of handles on it.
        pub fn handles(&self) -> usize {
            Arc::strong_count(&self.0)
        }
        fn at<T>(&self, offset: usize) -> Option<&T> {
            let fits = offset.checked_add(size_of::<T>())? <= 4096
                && offset.is_multiple_of(align_of::<T>());
            // SAFETY: inside the page, aligned, and all accesses are atomic.
            fits.then(|| unsafe { &*self.0.0.as_ptr().cast::<u8>().add(offset).cast::<T>() })
        }
    }

    impl SharedWords for FakePage {
        fn u8(&self, offset: usize) -> Option<&AtomicU8> {
            self.at(offset)
        }
        fn u16(&self, offset: usize) -> Option<&AtomicU16> {
            self.at(offset)
        }
        fn u32(&self, offset: usize) -> Option<&AtomicU32> {
            self.at(offset)
        }
        fn u64(&self, offset: usize) -> Option<&AtomicU64> {
            self.at(offset)
        }
    }
}
