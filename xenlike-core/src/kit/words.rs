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
    /// Makes all bytes 0.
    fn zero(&self);
}

#[cfg(all(test, not(loom)))]
pub mod fake {
    //! A page shared with a guest, on the host.
    #![expect(
        unsafe_code,
        reason = "views of one memory as atomics of several widths"
    )]

    use crate::kit::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
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
        fn zero(&self) {
            for word in &self.0.0 {
                word.store(0, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(all(test, loom))]
pub mod fake {
    //! A page shared with a guest, in a model. Loom's atomics are no bytes of memory, so there is one
    //! for each place that is accessed, and a place has one width: guest and hypervisor use it alike.
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

    /// A handle on a page, as the guest and the hypervisor both have.
    #[derive(Clone, Default)]
    pub struct FakePage(Arc<Mutex<BTreeMap<usize, Word>>>);

    impl FakePage {
        /// A zeroed page.
        pub fn new() -> Self {
            Self::default()
        }
        /// Number of handles on it.
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
            // SAFETY: in a box that stays as long as the page does.
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
