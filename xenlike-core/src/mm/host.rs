//! The fake machine's memory for tests on the host: an arena of frames.
#![expect(
    unsafe_code,
    reason = "an arena of bytes that tests see as machine memory"
)]

use alloc::alloc::{Layout, alloc_zeroed};
use alloc::vec::Vec;

use super::frame::{CHUNK_FRAMES, Frame, frames};
use crate::kit::{Mfn, Once, PAGE_SIZE};

/// Number of frames in the arena; the first is never allocated. Few under Miri, whose run time grows with their
/// square.
const FRAMES: usize = if cfg!(miri) { 512 } else { 16384 };

/// The simulated machine's memory.
pub(super) struct Arena {
    bytes: *mut u8,
    frames: Vec<Frame>,
    m2p: Vec<crate::kit::atomic::AtomicU64>,
    narrow_m2p: Vec<crate::kit::atomic::AtomicU32>,
}

// SAFETY: the bytes are accessed only as real machine memory is: as atomics, or by the user that the allocator gave
// the frame to.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

static ARENA: Once<Arena> = Once::new();

/// Returns the arena, which is made at the first use.
pub(super) fn arena() -> &'static Arena {
    ARENA.call_once(|| {
        let layout = Layout::from_size_align(FRAMES * PAGE_SIZE, PAGE_SIZE).expect("a good layout");
        // SAFETY: the size is not zero.
        let bytes = unsafe { alloc_zeroed(layout) };
        assert!(!bytes.is_null(), "no memory for the fake machine");
        let mut table = Vec::new();
        table.resize_with(FRAMES + 1, Frame::not_ram);
        let mut m2p = Vec::new();
        m2p.resize_with(FRAMES, || crate::kit::atomic::AtomicU64::new(u64::MAX));
        let mut narrow_m2p = Vec::new();
        narrow_m2p.resize_with(FRAMES, || crate::kit::atomic::AtomicU32::new(u32::MAX));
        // SAFETY: the entries are in the vector that was just made.
        unsafe { frames().set_end(Mfn(CHUNK_FRAMES)) };
        Arena {
            bytes,
            frames: table,
            m2p,
            narrow_m2p,
        }
    })
}

/// Returns the frames of the simulated machine's RAM.
pub(super) fn ram() -> core::ops::Range<Mfn> {
    arena();
    Mfn(1)..Mfn(FRAMES as u64)
}

impl Arena {
    pub(super) fn frame(&self, mfn: Mfn) -> &Frame {
        assert!(
            mfn.0 < CHUNK_FRAMES,
            "{mfn:?} is in no chunk of the fake machine"
        );
        // All frames above the arena share one entry: not RAM.
        &self.frames[(mfn.0 as usize).min(FRAMES)]
    }
    pub(super) fn ptr(&self, mfn: Mfn) -> *mut u8 {
        assert!(
            (mfn.0 as usize) < FRAMES,
            "{mfn:?} is not in the fake machine"
        );
        // SAFETY: within the arena.
        unsafe { self.bytes.add(mfn.0 as usize * PAGE_SIZE) }
    }
    pub(super) fn m2p(&self, mfn: Mfn) -> Option<&crate::kit::atomic::AtomicU64> {
        self.m2p.get(mfn.0 as usize)
    }
    pub(super) fn narrow_m2p(&self, mfn: Mfn) -> Option<&crate::kit::atomic::AtomicU32> {
        self.narrow_m2p.get(mfn.0 as usize)
    }
}
