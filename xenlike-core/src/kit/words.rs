//! [`SharedWords`]: access to pages that a guest shares with the hypervisor.

use crate::kit::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// A page that the guest may read and write at any moment, so it is accessed only by atomics, within its 4096 bytes.
/// The handle keeps the page from being freed or put to another use; dropping the handle ends that.
pub trait SharedWords: Send + Sync {
    /// The byte at `offset`; `None` beyond the page.
    fn u8(&self, offset: usize) -> Option<&AtomicU8>;
    /// The 16-bit word at `offset`; `None` beyond the page or if misaligned.
    fn u16(&self, offset: usize) -> Option<&AtomicU16>;
    /// The 32-bit word at `offset`; `None` beyond the page or if misaligned.
    fn u32(&self, offset: usize) -> Option<&AtomicU32>;
    /// The 64-bit word at `offset`; `None` beyond the page or if misaligned.
    fn u64(&self, offset: usize) -> Option<&AtomicU64>;
    /// Sets all bytes of the page to 0.
    fn zero(&self);
}

#[cfg(all(test, not(loom)))]
pub mod fake {
    //! The host tests' stand-in for a page shared with a guest.
    #![expect(
        unsafe_code,
        reason = "views of one memory as atomics of several widths"
    )]

    use crate::kit::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
    use alloc::sync::Arc;

    use super::SharedWords;

    /// The 4096 bytes of the page.
    #[repr(align(4096))]
    struct Bytes([AtomicU64; 512]);

    /// A handle on a page; guest and hypervisor each have one.
    #[derive(Clone)]
    pub struct FakePage(Arc<Bytes>);

    impl Default for FakePage {
        fn default() -> Self {
            Self::new()
        }
    }

    impl FakePage {
        /// Makes a zeroed page with one handle.
        pub fn new() -> Self {
            Self(Arc::new(Bytes([const { AtomicU64::new(0) }; 512])))
        }
        /// The number of handles on the page.
        pub fn handles(&self) -> usize {
            Arc::strong_count(&self.0)
        }
        fn at<T>(&self, offset: usize) -> Option<&T> {
            let fits = offset.checked_add(size_of::<T>())? <= 4096
                && offset.is_multiple_of(align_of::<T>());
            // SAFETY: within the page, aligned, and all accesses are atomic.
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
        fn zero(&self) {
            for word in &self.0.0 {
                word.store(0, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(all(test, loom))]
pub mod fake {
    //! The models' stand-in for a page shared with a guest. Loom's atomics have no bytes in memory, so each accessed
    //! offset has an atomic of its own, of one width: guest and hypervisor must use the same width.
    #![expect(unsafe_code, reason = "hands out words that are never taken away")]

    use crate::kit::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
    use alloc::boxed::Box;
    use alloc::collections::BTreeMap;
    use alloc::sync::Arc;
    use std::sync::{Mutex, PoisonError};

    use super::SharedWords;

    enum Word {
        U8(Box<AtomicU8>),
        U16(Box<AtomicU16>),
        U32(Box<AtomicU32>),
        U64(Box<AtomicU64>),
    }

    /// A handle on a page; guest and hypervisor each have one.
    #[derive(Clone, Default)]
    pub struct FakePage(Arc<Mutex<BTreeMap<usize, Word>>>);

    impl FakePage {
        /// Makes a zeroed page with one handle.
        pub fn new() -> Self {
            Self::default()
        }
        /// The number of handles on the page.
        pub fn handles(&self) -> usize {
            Arc::strong_count(&self.0)
        }
    }

    macro_rules! word {
        ($self:ident $at:ident $int:ident $sort:ident $atomic:ident) => {{
            let bytes = size_of::<$int>();
            if $at.checked_add(bytes)? > 4096 || !$at.is_multiple_of(bytes) {
                return None;
            }
            let mut words = $self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let word = words
                .entry($at)
                .or_insert_with(|| Word::$sort(Box::new($atomic::new(0))));
            let Word::$sort(word) = word else {
                panic!("byte {} of a page is accessed with two widths", $at);
            };
            // SAFETY: the word is in a box that lives as long as the page.
            Some(unsafe { &*core::ptr::from_ref::<$atomic>(word) })
        }};
    }

    impl SharedWords for FakePage {
        fn u8(&self, at: usize) -> Option<&AtomicU8> {
            word!(self at u8 U8 AtomicU8)
        }
        fn u16(&self, at: usize) -> Option<&AtomicU16> {
            word!(self at u16 U16 AtomicU16)
        }
        fn u32(&self, at: usize) -> Option<&AtomicU32> {
            word!(self at u32 U32 AtomicU32)
        }
        fn u64(&self, at: usize) -> Option<&AtomicU64> {
            word!(self at u64 U64 AtomicU64)
        }
        fn zero(&self) {
            let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for word in words.values() {
                match word {
                    Word::U8(word) => word.store(0, Ordering::SeqCst),
                    Word::U16(word) => word.store(0, Ordering::SeqCst),
                    Word::U32(word) => word.store(0, Ordering::SeqCst),
                    Word::U64(word) => word.store(0, Ordering::SeqCst),
                }
            }
        }
    }
}
