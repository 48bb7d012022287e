//! The door to pages that a guest shares with the hypervisor.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// A page that a guest reads and writes at any moment: only atomics, only inside its 4096 bytes. The
/// handle keeps the page from being freed or given another use; dropping it lets go.
pub trait SharedWords: Send + Sync {
    /// The byte at `offset`.
    fn u8(&self, offset: usize) -> Option<&AtomicU8>;
    /// The aligned 32-bit word at `offset`.
    fn u32(&self, offset: usize) -> Option<&AtomicU32>;
    /// The aligned 64-bit word at `offset`.
    fn u64(&self, offset: usize) -> Option<&AtomicU64>;
}
