//! The frame table: what the hypervisor knows of each frame of RAM.
//!
//! The state of a frame is one atomic word ([`State`]), so that its kind, type, validity and both of
//! its counts change together. What the bits mean for domains is `pagetype`'s; here are the layout
//! and the access.
#![expect(
    unsafe_code,
    reason = "the frame table is memory that boot maps at a fixed address"
)]

use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering};

use super::layout;
use crate::kit::{DomId, Mfn};

/// Bytes of one entry of the frame table.
pub const FRAME_BYTES: usize = 32;
/// Frames whose entries fill one 2 MiB piece of the frame table (256 MiB of memory).
pub const CHUNK_FRAMES: u64 = (2 << 20) / FRAME_BYTES as u64;

/// What one frame is to the hypervisor. 32 bytes; all fields atomic.
///
/// An all-zero entry is a frame that is not RAM.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    /// Kind, flags, type and counts: see [`State`].
    pub state: AtomicU64,
    /// The owner's id in the low half; the high half is the allocator's (order of a free block).
    owner: AtomicU32,
    /// Progress of a page table's validation: entries below this are validated. Of a free frame, whose
    /// contents it has: see [`super::alloc::Past`].
    pub progress: AtomicU32,
    /// Next frame of the list this frame is on; 0 ends it.
    pub next: AtomicU32,
    /// Previous frame of the list this frame is on; 0 at its head.
    pub prev: AtomicU32,
    /// Time on the flush clock when the frame's last mapping went.
    pub stamp: AtomicU32,
    /// Links between page tables of the same level: see `pagetype`.
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
/// | 57 | partial: validation stopped half-way, and owns one reference of each sort |
/// | 58 | pinned: the owner holds one reference of each sort by its own wish |
/// | 59 | allocated: the owner's page list holds one reference |
/// | 60–61 | kind: not RAM, free, used |
/// | 62 | dirty: a free frame's old contents are still in it |
/// | 63 | head: first frame of a free block; of a used one: lent by the hypervisor |
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State(pub u64);

/// Whether a frame is RAM, and in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Not RAM: device memory, a hole, or firmware's.
    NotRam,
    /// In the allocator's lists.
    Free,
    /// In use by the hypervisor or by a domain.
    Used,
}

impl State {
    /// One reference.
    pub const REF: u64 = 1;
    const REF_MASK: u64 = (1 << 27) - 1;
    /// One type reference.
    pub const TYPE_REF: u64 = 1 << 27;
    const TYPE_REF_MASK: u64 = ((1 << 26) - 1) << 27;
    /// Where the type's three bits start.
    pub const TYPE_SHIFT: u32 = 53;
    /// The type's bits.
    pub const TYPE_MASK: u64 = 7 << 53;
    /// The type's promise has been checked.
    pub const VALIDATED: u64 = 1 << 56;
    /// Validation stopped half-way.
    pub const PARTIAL: u64 = 1 << 57;
    /// Pinned by its owner.
    pub const PINNED: u64 = 1 << 58;
    /// On its owner's page list.
    pub const ALLOCATED: u64 = 1 << 59;
    /// Kind: free.
    pub const FREE: u64 = 1 << 60;
    /// Kind: used.
    pub const USED: u64 = 2 << 60;
    const KIND_MASK: u64 = 3 << 60;
    /// Old contents still in it.
    pub const DIRTY: u64 = 1 << 62;
    /// First of a free block.
    pub const HEAD: u64 = 1 << 63;
    /// Of a frame in use: the hypervisor's own, lent to its owner.
    pub const SHARED: u64 = 1 << 63;

    /// References.
    pub const fn refs(self) -> u64 {
        self.0 & Self::REF_MASK
    }
    /// Type references.
    pub const fn type_refs(self) -> u64 {
        (self.0 & Self::TYPE_REF_MASK) / Self::TYPE_REF
    }
    /// The word with counts added, or a flag that is not set: the caller has seen that there is room.
    pub const fn plus(self, parts: u64) -> u64 {
        self.0.wrapping_add(parts)
    }
    /// The word with counts taken off that are in it, or a flag that is set.
    pub const fn minus(self, parts: u64) -> u64 {
        self.0.wrapping_sub(parts)
    }
    /// Whether the owner's page list has it, and nobody else.
    pub const fn is_alone(self) -> bool {
        let looked_at =
            Self::REF_MASK | Self::TYPE_REF_MASK | Self::KIND_MASK | Self::ALLOCATED | Self::SHARED;
        self.0 & looked_at == Self::REF | Self::USED | Self::ALLOCATED
    }
    /// The highest bit of each count. Who asks gets no more when it is set: the other half is for
    /// references that must not fail.
    const REFS_FULL: u64 = 1 << 26;
    const TYPE_REFS_FULL: u64 = 1 << 52;

    /// Whether another reference fits.
    pub const fn can_ref(self) -> bool {
        self.0 & Self::REFS_FULL == 0
    }
    /// Whether another type reference fits.
    pub const fn can_type_ref(self) -> bool {
        self.0 & Self::TYPE_REFS_FULL == 0
    }
    /// Whether it is validated as what its type says, and another reference of each sort fits. Then
    /// it has some of each: no frame is validated without.
    pub const fn can_share(self) -> bool {
        let full = Self::REFS_FULL | Self::TYPE_REFS_FULL;
        self.0 & (Self::VALIDATED | full) == Self::VALIDATED
    }
    /// The type's number.
    pub const fn type_bits(self) -> u64 {
        (self.0 & Self::TYPE_MASK) >> Self::TYPE_SHIFT
    }
    /// Whether all bits of `flags` are set.
    pub const fn has(self, flags: u64) -> bool {
        self.0 & flags == flags
    }
    /// Whether the frame is RAM, and in use.
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
    /// The entry of a frame that is not RAM.
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

    /// The state word now.
    pub fn load(&self) -> State {
        State(self.state.load(Ordering::Acquire))
    }

    /// Changes the state word from `old` to `new`, or tells what it is instead.
    pub fn change(&self, old: State, new: u64) -> Result<(), State> {
        self.state
            .compare_exchange_weak(old.0, new, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(State)
    }

    /// The owner. [`DomId::INVALID`]: the hypervisor's own use.
    pub fn owner(&self) -> DomId {
        DomId(self.owner.load(Ordering::Acquire) as u16)
    }

    /// Sets the owner; for whoever holds the frame alone.
    pub fn set_owner(&self, owner: DomId) {
        self.owner.store(u32::from(owner.0), Ordering::Release);
    }

    /// The order of the free block that this frame heads.
    pub(super) fn order(&self) -> u32 {
        self.owner.load(Ordering::Relaxed) >> 16
    }

    /// Notes the order of the free block that this frame heads.
    pub(super) fn set_order(&self, order: u32) {
        let free = order << 16 | u32::from(DomId::INVALID.0);
        self.owner.store(free, Ordering::Relaxed);
    }
}

/// The table of all frames.
#[derive(Debug)]
pub struct FrameTable {
    /// One past the last frame that has an entry; all before it have one, RAM or not.
    end: AtomicU64,
}

static TABLE: FrameTable = FrameTable::new();

/// The table of all frames.
pub fn frames() -> &'static FrameTable {
    &TABLE
}

impl FrameTable {
    const fn new() -> Self {
        Self {
            end: AtomicU64::new(0),
        }
    }

    /// What is known of `mfn`; nothing if it is not RAM.
    #[inline]
    pub fn get(&self, mfn: Mfn) -> Option<&'static Frame> {
        self.raw(mfn).filter(|f| f.load().kind() != Kind::NotRam)
    }

    /// The entry of `mfn`, RAM or not, if the table has one. An entry of what is not RAM never has
    /// references.
    #[inline]
    pub fn entry(&self, mfn: Mfn) -> Option<&'static Frame> {
        self.raw(mfn)
    }

    /// The entry of `mfn`, RAM or not, if the table has one.
    #[inline]
    pub(super) fn raw(&self, mfn: Mfn) -> Option<&'static Frame> {
        (mfn.0 < self.end.load(Ordering::Relaxed)).then(|| entry(mfn))
    }

    /// Notes that the table is mapped, and zeroed, for the frames below `end`. Where none of a chunk's
    /// frames is RAM, nothing is ever written: the chunk may be mapped read-only. For boot, while one
    /// CPU runs.
    ///
    /// # Safety
    /// It is, and stays so.
    pub unsafe fn set_end(&self, end: Mfn) {
        self.end
            .store(end.0.min(layout::MAX_FRAMES), Ordering::Release);
    }
}

/// Where the piece of the frame table for the frames `chunk` × [`CHUNK_FRAMES`] and on lives.
pub const fn chunk_address(chunk: u64) -> u64 {
    layout::FRAME_TABLE + chunk * CHUNK_FRAMES * FRAME_BYTES as u64
}

#[cfg(target_os = "none")]
#[inline]
fn entry(mfn: Mfn) -> &'static Frame {
    // Cut to 32 bits, the number names no address behind the table's part of the address space, even
    // where the CPU speculates that it is in range.
    let number = crate::kit::nospec::cut_to_32(mfn.0);
    let at = (layout::FRAME_TABLE + number * FRAME_BYTES as u64) as *const Frame;
    // SAFETY: the caller has seen that the table reaches so far; it is not at 0.
    unsafe { core::hint::assert_unchecked(!at.is_null()) };
    // SAFETY: the caller has seen that the table reaches so far, set after it was mapped and zeroed; all
    // fields are atomics for which any bytes are valid, and nothing else refers to that memory.
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
