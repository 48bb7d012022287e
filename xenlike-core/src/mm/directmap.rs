//! Access to the bytes of any frame, through the direct map of all RAM.
//!
//! A guest may write a frame while the hypervisor reads it, so there are no references of type `&[u8]` to
//! frames. Words are accessed as atomics. Blocks are copied by assembly code, which the compiler can't look
//! into; under Miri, which can't execute it, they are copied plainly.
#![expect(unsafe_code, reason = "raw access to frames through the direct map")]

use crate::kit::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use core::arch::asm;

use super::frame::{Kind, State, frames};
use crate::kit::{DomId, Mfn, PAGE_SIZE};

/// Returns the address in the direct map of the first byte of `mfn`.
#[cfg(target_os = "none")]
pub fn ptr(mfn: Mfn) -> *mut u8 {
    (super::layout::DIRECT_MAP + (mfn.0 << 12)) as *mut u8
}

/// Returns the address in the arena of the first byte of `mfn`.
#[cfg(not(target_os = "none"))]
pub fn ptr(mfn: Mfn) -> *mut u8 {
    super::host::arena().ptr(mfn)
}

/// Returns the frame that contains `at`, an address in the direct map.
#[cfg(target_os = "none")]
pub fn mfn_of(at: *const u8) -> Mfn {
    Mfn((at as u64).wrapping_sub(super::layout::DIRECT_MAP) >> 12)
}

/// Fills a frame with zeros.
pub(super) fn zero(mfn: Mfn) {
    // SAFETY: callers pass frames of RAM, all of which the direct map maps writable. The bytes are not memory
    // of a Rust object: they belong to the allocator or to a SharedPage.
    unsafe {
        if cfg!(miri) {
            return ptr(mfn).write_bytes(0, PAGE_SIZE);
        }
        asm!("rep stosq", inout("rcx") PAGE_SIZE / 8 => _, inout("rdi") ptr(mfn) => _, in("rax") 0u64,
             options(nostack, preserves_flags));
    }
}

/// Access to the bytes of a frame that the hypervisor and guests share.
///
/// The holder must keep the frame allocated as long as it uses this value, which is not a reference in
/// the frame's counts.
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
            // SAFETY: within the frame and aligned; the direct map is always mapped. The memory is only ever
            // accessed as atomics or by assembly code (`new` refuses frames that are Rust memory).
            Some(unsafe { &*ptr(self.0).add(offset).cast::<$atomic>() })
        }
    )*};
}

impl SharedPage {
    /// Access to `mfn`. `None` if it is not a frame of RAM in use, or if it belongs to the heap.
    #[inline]
    pub fn new(mfn: Mfn) -> Option<Self> {
        let frame = frames().entry(mfn)?;
        (frame.load().kind() == Kind::Used && frame.owner() != DomId::IDLE).then_some(Self(mfn))
    }

    /// Like [`Self::new`], for callers that have just read the frame's state. `None` if the frame has no type.
    /// A frame with a type is not memory of the heap, which never gets one. A frame that loses its type gets no
    /// other use before this CPU flushes its TLB.
    #[inline]
    pub fn of_typed(mfn: Mfn, seen: State) -> Option<Self> {
        (seen.type_bits() != 0).then_some(Self(mfn))
    }

    /// Returns the frame's number.
    pub const fn mfn(&self) -> Mfn {
        self.0
    }

    words! { u8 AtomicU8 u8  u16 AtomicU16 u16  u32 AtomicU32 u32  u64 AtomicU64 u64 }

    /// Returns the page as 512 words, for instance as a page table.
    #[inline]
    pub fn words(&self) -> &'static [AtomicU64; 512] {
        let at = ptr(self.0).cast::<[AtomicU64; 512]>();
        // SAFETY: a frame of RAM is in the direct map, which doesn't start at address 0.
        unsafe { core::hint::assert_unchecked(!at.is_null()) };
        // SAFETY: as for the words above; a frame consists of 512 aligned words.
        unsafe { &*at }
    }

    /// Copies out of the page. `None`, with nothing copied, if the range crosses the end of the page.
    #[must_use]
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Option<()> {
        in_page(offset, out.len())?;
        // SAFETY: both ranges are checked; the page's bytes are not memory of a Rust object.
        unsafe { copy(ptr(self.0).add(offset), out.as_mut_ptr(), out.len()) };
        Some(())
    }

    /// Copies into the page. `None`, with nothing copied, if the range crosses the end of the page.
    #[must_use]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Option<()> {
        in_page(offset, bytes.len())?;
        // SAFETY: both ranges are checked; the page's bytes are not memory of a Rust object.
        unsafe { copy(bytes.as_ptr(), ptr(self.0).add(offset), bytes.len()) };
        Some(())
    }

    /// Fills the page with zeros.
    pub fn zero(&self) {
        zero(self.0);
    }

    /// Copies a part of another page into this one. `None`, with nothing copied, if a range crosses the end
    /// of its page.
    #[must_use]
    pub fn copy_part(&self, at: usize, other: &Self, from: usize, bytes: usize) -> Option<()> {
        in_page(at, bytes)?;
        in_page(from, bytes)?;
        // SAFETY: both ranges are checked; the pages' bytes are not memory of Rust objects.
        unsafe { copy(ptr(other.0).add(from), ptr(self.0).add(at), bytes) };
        Some(())
    }

    /// Copies all of another page into this one.
    pub fn copy_from(&self, other: &Self) {
        // SAFETY: two frames of RAM, which are not memory of Rust objects. Copying a frame to
        // itself is harmless.
        unsafe { copy(ptr(other.0), ptr(self.0), PAGE_SIZE) };
    }
}

fn in_page(offset: usize, bytes: usize) -> Option<()> {
    (offset.checked_add(bytes)? <= PAGE_SIZE).then_some(())
}

/// Copies bytes that guests may write at the same time.
///
/// # Safety
/// Both ranges are mapped, and the destination is not memory of a Rust object other than the caller's.
unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    // Copies whole words, and then the odd bytes.
    // SAFETY: by the caller's promise; the ABI guarantees that the direction flag is clear.
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
