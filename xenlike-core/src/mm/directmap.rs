//! The bytes of a frame, wherever it is: through the direct map of all RAM.
//!
//! A guest may write a frame while the hypervisor looks at it, so there is no `&[u8]` of one: words
//! are atomics, and blocks are copied by a machine instruction that the compiler doesn't look into
//! (nor does Miri, for which they are copied plainly).
#![expect(unsafe_code, reason = "raw access to frames through the direct map")]

use crate::kit::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use core::arch::asm;

use super::frame::{Kind, State, frames};
use crate::kit::{DomId, Mfn, PAGE_SIZE};

/// Where the first byte of `mfn` is mapped.
#[cfg(target_os = "none")]
pub fn ptr(mfn: Mfn) -> *mut u8 {
    (super::layout::DIRECT_MAP + (mfn.0 << 12)) as *mut u8
}

/// Where the first byte of `mfn` is mapped.
#[cfg(not(target_os = "none"))]
pub fn ptr(mfn: Mfn) -> *mut u8 {
    super::host::arena().ptr(mfn)
}

/// The frame that `at`, a place in the direct map, lies in.
#[cfg(target_os = "none")]
pub fn mfn_of(at: *const u8) -> Mfn {
    Mfn((at as u64).wrapping_sub(super::layout::DIRECT_MAP) >> 12)
}

/// Fills a frame with zeros.
pub(super) fn zero(mfn: Mfn) {
    // SAFETY: callers pass frames of RAM, all of which the direct map maps writable; the bytes are
    // nobody's Rust memory: the allocator has them, or a SharedPage.
    unsafe {
        if cfg!(miri) {
            return ptr(mfn).write_bytes(0, PAGE_SIZE);
        }
        asm!("rep stosq", inout("rcx") PAGE_SIZE / 8 => _, inout("rdi") ptr(mfn) => _, in("rax") 0u64,
             options(nostack, preserves_flags));
    }
}

/// A handle on the bytes of a frame that the hypervisor and guests share.
///
/// The holder keeps the frame allocated for as long as it has the handle; a handle is not a
/// reference in the frame's counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SharedPage(Mfn);

macro_rules! words {
    ($($name:ident $atomic:ident $word:ident)*) => {$(
        #[doc = concat!("The ", stringify!($word), " at a byte offset; nothing if it is not aligned or not in the page.")]
        #[inline]
        pub fn $name(&self, offset: usize) -> Option<&'static $atomic> {
            let bytes = size_of::<$word>();
            if offset % bytes != 0 || offset >= PAGE_SIZE {
                return None;
            }
            // SAFETY: inside the frame and aligned; the direct map is always mapped; the memory is
            // only ever accessed as atomics or by machine instructions (`new` refuses frames that
            // are Rust memory).
            Some(unsafe { &*ptr(self.0).add(offset).cast::<$atomic>() })
        }
    )*};
}

impl SharedPage {
    /// The bytes of `mfn`; nothing if it is not a frame of RAM in use, or is the heap's.
    #[inline]
    pub fn new(mfn: Mfn) -> Option<Self> {
        let frame = frames().entry(mfn)?;
        (frame.load().kind() == Kind::Used && frame.owner() != DomId::IDLE).then_some(Self(mfn))
    }

    /// As [`Self::new`], for who has seen the frame's state just now; nothing if it has no type. A
    /// frame with one is no memory of Rust's: that never gets any, and what loses it gets no other use
    /// before this CPU flushes.
    #[inline]
    pub fn of_typed(mfn: Mfn, seen: State) -> Option<Self> {
        (seen.type_bits() != 0).then_some(Self(mfn))
    }

    /// The frame.
    pub const fn mfn(&self) -> Mfn {
        self.0
    }

    words! { u8 AtomicU8 u8  u16 AtomicU16 u16  u32 AtomicU32 u32  u64 AtomicU64 u64 }

    /// The page as 512 words: a page table, say.
    #[inline]
    pub fn words(&self) -> &'static [AtomicU64; 512] {
        let at = ptr(self.0).cast::<[AtomicU64; 512]>();
        // SAFETY: a frame of RAM is in the direct map, which is not at 0.
        unsafe { core::hint::assert_unchecked(!at.is_null()) };
        // SAFETY: as for the words above; a frame is 512 aligned words.
        unsafe { &*at }
    }

    /// Copies out of the page; nothing, and nothing copied, if that leaves the page.
    #[must_use]
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Option<()> {
        in_page(offset, out.len())?;
        // SAFETY: both ranges are checked; the page's bytes are nobody's Rust memory.
        unsafe { copy(ptr(self.0).add(offset), out.as_mut_ptr(), out.len()) };
        Some(())
    }

    /// Copies into the page; nothing, and nothing copied, if that leaves the page.
    #[must_use]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Option<()> {
        in_page(offset, bytes.len())?;
        // SAFETY: both ranges are checked; the page's bytes are nobody's Rust memory.
        unsafe { copy(bytes.as_ptr(), ptr(self.0).add(offset), bytes.len()) };
        Some(())
    }

    /// Fills the page with zeros.
    pub fn zero(&self) {
        zero(self.0);
    }

    /// Copies a part of another page into this one; nothing, and nothing copied, if it leaves either.
    #[must_use]
    pub fn copy_part(&self, at: usize, other: &Self, from: usize, bytes: usize) -> Option<()> {
        in_page(at, bytes)?;
        in_page(from, bytes)?;
        // SAFETY: both ranges are checked; the pages' bytes are nobody's Rust memory.
        unsafe { copy(ptr(other.0).add(from), ptr(self.0).add(at), bytes) };
        Some(())
    }

    /// Copies all of another page into this one.
    pub fn copy_from(&self, other: &Self) {
        // SAFETY: two frames of RAM, nobody's Rust memory; the same one twice is harmless.
        unsafe { copy(ptr(other.0), ptr(self.0), PAGE_SIZE) };
    }
}

fn in_page(offset: usize, bytes: usize) -> Option<()> {
    (offset.checked_add(bytes)? <= PAGE_SIZE).then_some(())
}

/// Copies bytes in a way that does not mind that somebody else writes them.
///
/// # Safety
/// Both ranges are mapped; the destination is nobody else's Rust memory.
unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    // Whole words, then the odd bytes.
    // SAFETY: the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        if cfg!(miri) {
            return from.copy_to(to, bytes);
        }
        asm!("rep movsq", "mov ecx, {odd:e}", "rep movsb", odd = in(reg) bytes & 7,
             inout("rcx") bytes >> 3 => _, inout("rsi") from => _, inout("rdi") to => _,
             options(nostack, preserves_flags));
    }
}

#[cfg(test)]
mod tests {
    use crate::kit::atomic::Ordering;

    use super::*;
    use crate::mm::alloc;

    #[test]
    fn words_and_bytes_are_the_same_memory() {
        let mfn = alloc::alloc_frame(alloc::Where::ANY).unwrap();
        let page = SharedPage::new(mfn).unwrap();
        page.u32(8).unwrap().store(0x1122_3344, Ordering::Relaxed);
        let mut bytes = [0; 4];
        page.read(8, &mut bytes).unwrap();
        assert_eq!(bytes, [0x44, 0x33, 0x22, 0x11]);
        page.write(4092, &bytes).unwrap();
        assert_eq!(page.u32(4092).unwrap().load(Ordering::Relaxed), 0x1122_3344);
        page.zero();
        assert_eq!(page.u64(8).unwrap().load(Ordering::Relaxed), 0);
        alloc::free(mfn, 0);
    }

    #[test]
    fn nothing_outside_the_page() {
        let mfn = alloc::alloc_frame(alloc::Where::ANY).unwrap();
        let page = SharedPage::new(mfn).unwrap();
        assert!(page.u64(4090).is_none());
        assert!(page.u64(4096).is_none());
        assert!(page.u8(usize::MAX).is_none());
        assert!(page.read(4095, &mut [0; 2]).is_none());
        assert!(page.write(usize::MAX, &[0]).is_none());
        alloc::free(mfn, 0);
        assert!(SharedPage::new(mfn).is_none());
        assert!(SharedPage::new(Mfn::INVALID).is_none());
    }
}
