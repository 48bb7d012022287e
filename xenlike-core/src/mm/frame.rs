//! The frame table: what the hypervisor knows about each frame of RAM.
//!
//! The state of a frame is one atomic word ([`State`]), so that its kind, type, validity and both counts
//! change together. `pagetype` defines what the bits mean for domains; this file has their layout and the
//! access to them.
#![expect(
    unsafe_code,
    reason = "the frame table is memory that boot maps at a fixed address"
)]

use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering};

use super::layout;
use crate::kit::{DomId, Mfn};

/// The size of an entry of the frame table in bytes.
pub const FRAME_BYTES: usize = 32;
/// The number of frames whose entries fill 2 MiB of the frame table (256 MiB of memory).
pub const CHUNK_FRAMES: u64 = (2 << 20) / FRAME_BYTES as u64;

/// The entry of a frame: 32 bytes, and all fields are atomic.
///
/// An entry of zeros stands for a frame that is not RAM.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    /// Kind, flags, type and counts, see [`State`].
    pub state: AtomicU64,
    /// The owner's id in the lower half. The upper half is the allocator's: the order of a free block.
    owner: AtomicU32,
    /// For a page table, the number of its first entries that are validated. For a free frame, the user whose
    /// data it contains, see [`super::alloc::Past`].
    pub progress: AtomicU32,
    /// The next frame of the list that contains this frame; 0 at the end.
    pub next: AtomicU32,
    /// The previous frame of the list that contains this frame; 0 at the head.
    pub prev: AtomicU32,
    /// The time on the flush clock when the frame lost its last mapping.
    pub stamp: AtomicU32,
    /// Counts of links between page tables of the same level, see `pagetype`.
    pub linear: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Frame>() == FRAME_BYTES);

/// A value of a frame's state word.
///
/// | bits | |
/// |---|---|
/// | 0–26 | references: while there is one, the frame has its owner |
/// | 27–52 | type references: while there is one, the frame keeps its type |
/// | 53–55 | type |
/// | 56 | validated: what the type promises of the contents has been checked; only with a type reference |
/// | 57 | partial: validation stopped halfway, and owns one reference of each kind |
/// | 58 | pinned: the pin, which the owner requested, holds one reference of each kind |
/// | 59 | allocated: the owner's page list holds one reference |
/// | 60–61 | kind: not RAM, free, used |
/// | 62 | dirty: a free frame's old contents are still in it; for a frame in use: its owner is a narrow domain |
/// | 63 | head: first frame of a free block; for a frame in use: the hypervisor's, shared with the owner |
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State(pub u64);

/// Whether a frame is RAM, and whether it is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Not RAM: device memory, a hole, or the firmware's.
    NotRam,
    /// On the allocator's lists.
    Free,
    /// In use by the hypervisor or by a domain.
    Used,
}

impl State {
    /// One reference, to add to the word or to subtract.
    pub const REF: u64 = 1;
    const REF_MASK: u64 = (1 << 27) - 1;
    /// One type reference, to add to the word or to subtract.
    pub const TYPE_REF: u64 = 1 << 27;
    const TYPE_REF_MASK: u64 = ((1 << 26) - 1) << 27;
    /// The position of the type's three bits.
    pub const TYPE_SHIFT: u32 = 53;
    /// The mask of the type's bits.
    pub const TYPE_MASK: u64 = 7 << 53;
    /// The contents have been validated for the type.
    pub const VALIDATED: u64 = 1 << 56;
    /// Validation has stopped halfway.
    pub const PARTIAL: u64 = 1 << 57;
    /// The owner has pinned the frame.
    pub const PINNED: u64 = 1 << 58;
    /// The frame is on its owner's page list, which holds a reference.
    pub const ALLOCATED: u64 = 1 << 59;
    /// The kind of a free frame.
    pub const FREE: u64 = 1 << 60;
    /// The kind of a frame in use.
    pub const USED: u64 = 2 << 60;
    const KIND_MASK: u64 = 3 << 60;
    /// The free frame still contains old data.
    pub const DIRTY: u64 = 1 << 62;
    /// For a frame in use: its owner is a narrow domain.
    pub const NARROW: u64 = 1 << 62;
    /// The free frame is the first of a block.
    pub const HEAD: u64 = 1 << 63;
    /// For a frame in use: it is the hypervisor's, and shared with its owner.
    pub const SHARED: u64 = 1 << 63;

    /// Returns the number of references.
    pub const fn refs(self) -> u64 {
        self.0 & Self::REF_MASK
    }
    /// Returns the number of type references.
    pub const fn type_refs(self) -> u64 {
        (self.0 & Self::TYPE_REF_MASK) / Self::TYPE_REF
    }
    /// Returns the word with references added, or with a flag that was clear. The caller has checked that
    /// there is room.
    pub const fn plus(self, parts: u64) -> u64 {
        self.0.wrapping_add(parts)
    }
    /// Returns the word with references subtracted that it has, or without a flag that was set.
    pub const fn minus(self, parts: u64) -> u64 {
        self.0.wrapping_sub(parts)
    }
    /// Whether the owner's page list holds the only reference.
    pub const fn is_alone(self) -> bool {
        let looked_at =
            Self::REF_MASK | Self::TYPE_REF_MASK | Self::KIND_MASK | Self::ALLOCATED | Self::SHARED;
        self.0 & looked_at == Self::REF | Self::USED | Self::ALLOCATED
    }
    /// The highest bit of each count. Requests fail once it is set; the upper half is for references that
    /// must not fail.
    const REFS_FULL: u64 = 1 << 26;
    const TYPE_REFS_FULL: u64 = 1 << 52;

    /// Whether there is room for another reference.
    pub const fn can_ref(self) -> bool {
        self.0 & Self::REFS_FULL == 0
    }
    /// Whether there is room for another type reference.
    pub const fn can_type_ref(self) -> bool {
        self.0 & Self::TYPE_REFS_FULL == 0
    }
    /// Whether the frame is validated for its type, and there is room for another reference of each kind. It
    /// has some of each kind already then, because otherwise it would not be validated.
    pub const fn can_share(self) -> bool {
        let full = Self::REFS_FULL | Self::TYPE_REFS_FULL;
        self.0 & (Self::VALIDATED | full) == Self::VALIDATED
    }
    /// Returns the number of the type.
    pub const fn type_bits(self) -> u64 {
        (self.0 & Self::TYPE_MASK) >> Self::TYPE_SHIFT
    }
    /// Whether all bits of `flags` are set.
    pub const fn has(self, flags: u64) -> bool {
        self.0 & flags == flags
    }
    /// Returns the kind of the frame.
    pub const fn kind(self) -> Kind {
        match self.0 & Self::KIND_MASK {
            Self::FREE => Kind::Free,
            Self::USED => Kind::Used,
            _ => Kind::NotRam,
        }
    }
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let flag = |bit, name| if self.has(bit) { name } else { "" };
        write!(
            f,
            "{:?} type {} refs {} type refs {}{}{}{}{}",
            self.kind(),
            self.type_bits(),
            self.refs(),
            self.type_refs(),
            flag(Self::VALIDATED, " validated"),
            flag(Self::PARTIAL, " partial"),
            flag(Self::PINNED, " pinned"),
            flag(Self::ALLOCATED, " allocated"),
        )
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::not_ram()
    }
}

impl Frame {
    /// Makes the entry of a frame that is not RAM.
    pub const fn not_ram() -> Self {
        Self {
            state: AtomicU64::new(0),
            owner: AtomicU32::new(0),
            progress: AtomicU32::new(0),
            next: AtomicU32::new(0),
            prev: AtomicU32::new(0),
            stamp: AtomicU32::new(0),
            linear: AtomicU32::new(0),
        }
    }

    /// Returns the present state.
    pub fn load(&self) -> State {
        State(self.state.load(Ordering::Acquire))
    }

    /// Changes the state from `old` to `new`, or returns the present state as the error. May fail
    /// without a cause.
    pub fn change(&self, old: State, new: u64) -> Result<(), State> {
        self.state
            .compare_exchange_weak(old.0, new, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(State)
    }

    /// Returns the owner. [`DomId::INVALID`] stands for the hypervisor itself.
    pub fn owner(&self) -> DomId {
        DomId(self.owner.load(Ordering::Acquire) as u16)
    }

    /// Sets the owner. Only the sole holder of the frame may call this.
    pub fn set_owner(&self, owner: DomId) {
        self.owner.store(u32::from(owner.0), Ordering::Release);
    }

    /// Returns the order of the free block whose first frame this is.
    pub(super) fn order(&self) -> u32 {
        self.owner.load(Ordering::Relaxed) >> 16
    }

    /// Sets the order of the free block whose first frame this is.
    pub(super) fn set_order(&self, order: u32) {
        let free = order << 16 | u32::from(DomId::INVALID.0);
        self.owner.store(free, Ordering::Relaxed);
    }
}

/// The table of all frames.
#[derive(Debug)]
pub struct FrameTable {
    /// The number after the last frame with an entry. All frames below it have one, whether they are
    /// RAM or not.
    end: AtomicU64,
}

static TABLE: FrameTable = FrameTable::new();

/// Returns the table of all frames.
pub fn frames() -> &'static FrameTable {
    &TABLE
}

impl FrameTable {
    const fn new() -> Self {
        Self {
            end: AtomicU64::new(0),
        }
    }

    /// Returns the entry of `mfn`. `None` if it is not RAM.
    #[inline]
    pub fn get(&self, mfn: Mfn) -> Option<&'static Frame> {
        self.raw(mfn).filter(|f| f.load().kind() != Kind::NotRam)
    }

    /// Returns the entry of `mfn`, RAM or not, if the table has one. The entry of a frame that is not RAM
    /// never has references.
    #[inline]
    pub fn entry(&self, mfn: Mfn) -> Option<&'static Frame> {
        self.raw(mfn)
    }

    /// Like [`Self::entry`], within `mm`.
    #[inline]
    pub(super) fn raw(&self, mfn: Mfn) -> Option<&'static Frame> {
        (mfn.0 < self.end.load(Ordering::Relaxed)).then(|| entry(mfn))
    }

    /// Records that the table is mapped and zeroed for the frames below `end`. A chunk without any RAM is never
    /// written, so it may be mapped read-only. For boot, while only one CPU runs.
    ///
    /// # Safety
    /// The table is mapped and zeroed as described, and stays so.
    pub unsafe fn set_end(&self, end: Mfn) {
        self.end
            .store(end.0.min(layout::MAX_FRAMES), Ordering::Release);
    }
}

/// Returns the address of the part of the frame table for the frames from `chunk` × [`CHUNK_FRAMES`] on.
pub const fn chunk_address(chunk: u64) -> u64 {
    layout::FRAME_TABLE + chunk * CHUNK_FRAMES * FRAME_BYTES as u64
}

#[cfg(target_os = "none")]
#[inline]
fn entry(mfn: Mfn) -> &'static Frame {
    // Truncated to 32 bits, the number can't reach beyond the table's part of the address space, even if the
    // CPU speculates that it is in range.
    let number = crate::kit::nospec::cut_to_32(mfn.0);
    let at = (layout::FRAME_TABLE + number * FRAME_BYTES as u64) as *const Frame;
    // SAFETY: the caller has checked that the table reaches this far; it doesn't start at address 0.
    unsafe { core::hint::assert_unchecked(!at.is_null()) };
    // SAFETY: the caller has checked that the table reaches this far, which was set after it was mapped and
    // zeroed. All fields are atomics for which any bytes are valid, and nothing else refers to this memory.
    unsafe { &*at }
}

#[cfg(not(target_os = "none"))]
fn entry(mfn: Mfn) -> &'static Frame {
    super::host::arena().frame(mfn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_holds_what_it_says() {
        let s = State(
            State::USED | (3 * State::TYPE_REF) | (5 * State::REF) | (4 << State::TYPE_SHIFT),
        );
        assert_eq!(
            (s.refs(), s.type_refs(), s.type_bits(), s.kind()),
            (5, 3, 4, Kind::Used)
        );
        let fields = [
            State::REF_MASK,
            State::TYPE_REF_MASK,
            State::TYPE_MASK,
            State::VALIDATED,
            State::PARTIAL,
            State::PINNED,
            State::ALLOCATED,
            State::KIND_MASK,
            State::DIRTY,
            State::HEAD,
        ];
        assert_eq!(
            fields
                .iter()
                .fold(0u64, |all, f| all.checked_add(*f).unwrap()),
            u64::MAX
        );
    }

    #[test]
    fn counts_know_their_ends() {
        let (refs, type_refs) = (State(1 << 26), State((1 << 25) * State::TYPE_REF));
        assert_eq!((refs.refs(), type_refs.type_refs()), (1 << 26, 1 << 25));
        let one_less = |state: State, one| State(state.minus(one));
        assert!(!refs.can_ref() && one_less(refs, State::REF).can_ref());
        assert!(!type_refs.can_type_ref());
        assert!(one_less(type_refs, State::TYPE_REF).can_type_ref());
        let shared = |state: State| State(state.0 | State::VALIDATED).can_share();
        assert!(!shared(refs) && !shared(type_refs));
        assert!(shared(one_less(refs, State::REF)) && !one_less(refs, State::REF).can_share());
    }
}
