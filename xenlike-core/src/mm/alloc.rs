//! The frame allocator: buddy blocks, in zones by the number of address bits that a frame needs, so that memory
//! within reach of old devices is allocated last.
//!
//! A freed frame is dirty. It is scrubbed when it is allocated, or before that by an idle CPU, unless it returns to
//! the user that left its contents ([`Past`]). A frame is allocated only when no CPU can still hold a translation of
//! it.

#[cfg(feature = "audit")]
pub mod audit;
mod loose;
mod past;

use crate::kit::atomic::{AtomicU64, Ordering};

use super::directmap;
use super::frame::{Frame, Kind, State, frames};
use super::layout::NARROW_M2P_FRAMES;
use super::stale;
use crate::kit::{DomId, Lock, Mfn, PAGE_SHIFT, Rank};
use loose::Loose;
pub use past::Past;

/// The largest order of a block (1 GiB). Order 0 is one frame.
pub const MAX_ORDER: u32 = 18;
const ORDERS: usize = MAX_ORDER as usize + 1;
/// Number of zones. Zone `n` holds the frames whose numbers have `n` significant bits.
const ZONES: usize = 41;

/// Limits the addresses that an allocated block may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Where {
    bits: u32,
}

impl Where {
    /// Any address.
    pub const ANY: Self = Self { bits: 64 };
    /// An address below 4 GiB.
    pub const LOW: Self = Self { bits: 32 };
    /// Addresses below 2^`bits`; 0 means any address, as in XENMEMF_address_bits.
    pub const fn bits(bits: u32) -> Self {
        if bits == 0 || bits > 64 {
            Self::ANY
        } else {
            Self { bits }
        }
    }
    /// Addresses within this limit and another one.
    pub fn and(self, other: Self) -> Self {
        Self {
            bits: self.bits.min(other.bits),
        }
    }
    /// Whether a frame is within the limit.
    pub const fn allows(self, mfn: Mfn) -> bool {
        zone_of(mfn) <= self.top_zone()
    }
    /// Addresses that the machine-to-physical table of narrow guests describes. As on Xen, their limit is a power of 2.
    pub fn narrow() -> Self {
        if end_of_ram().0 <= NARROW_M2P_FRAMES {
            return Self::ANY;
        }
        Self {
            bits: NARROW_M2P_FRAMES.ilog2() + PAGE_SHIFT,
        }
    }
    /// The highest zone that satisfies the limit.
    const fn top_zone(self) -> usize {
        let zone = self.bits.saturating_sub(12) as usize;
        if zone < ZONES { zone } else { ZONES - 1 }
    }
}

/// The free lists. A list links blocks by their first frames; 0 ends a list.
struct Buddies {
    heads: [[u32; ORDERS]; ZONES],
    /// For each zone, a bit for each order whose list is not empty.
    filled: [u32; ZONES],
    /// A bit for each zone with a list that is not empty.
    zones: u64,
    loose: Loose,
    /// The frame at which the next search for a dirty frame starts.
    scrub_at: u64,
}

static BUDDIES: Lock<Buddies> = Lock::new(Rank::Frames, Buddies::new());
static FREE: AtomicU64 = AtomicU64::new(0);
static DIRTY: AtomicU64 = AtomicU64::new(0);
static TOTAL: AtomicU64 = AtomicU64::new(0);
/// One past the highest frame of RAM. Only boot changes it.
static END: AtomicU64 = AtomicU64::new(0);

/// Number of free frames.
pub fn free_frames() -> u64 {
    host_init();
    FREE.load(Ordering::Relaxed)
}

/// Number of free frames that still hold their old contents (XEN_SYSCTL_physinfo's scrub_pages).
pub fn dirty_frames() -> u64 {
    DIRTY.load(Ordering::Relaxed)
}

/// Number of RAM frames that the core manages, free or not.
pub fn total_frames() -> u64 {
    host_init();
    TOTAL.load(Ordering::Relaxed)
}

/// Returns the number after the highest frame of RAM (XENMEM_maximum_ram_page).
pub fn end_of_ram() -> Mfn {
    host_init();
    Mfn(END.load(Ordering::Relaxed))
}

/// Adds unused RAM from `start` to below `end` to the allocator. For boot.
pub fn add_free(start: Mfn, end: Mfn) {
    count(start, end);
    free_range(start, end);
}

/// Registers RAM from `start` to below `end` that the hypervisor uses: its image, the frame table, boot modules.
/// [`free_range`] frees it when it is no longer needed.
pub fn add_used(start: Mfn, end: Mfn) {
    for mfn in start.0.max(FIRST)..end.0 {
        if let Some(frame) = frames().raw(Mfn(mfn)) {
            frame.set_owner(DomId::INVALID);
            frame.state.store(State::USED, Ordering::Release);
        }
    }
    count(start, end);
}

/// The first frame that the allocator manages. The core doesn't treat the first MiB as RAM: it holds what firmware
/// left for drivers, and domains with the right to it map it like device memory.
const FIRST: u64 = if cfg!(target_os = "none") { 0x100 } else { 1 };

/// Counts frames that are new to the allocator.
fn count(start: Mfn, end: Mfn) {
    let frames = end.0.saturating_sub(start.0.max(FIRST));
    TOTAL.fetch_add(frames, Ordering::Relaxed);
    END.fetch_max(end.0, Ordering::Relaxed);
}

/// Frees the frames from `start` to below `end`, which only the hypervisor used.
pub fn free_range(start: Mfn, end: Mfn) {
    free_run(start, end.0.saturating_sub(start.0), Past::NOBODY);
}

/// Frees `count` consecutive frames, which hold the contents of `past`.
pub fn free_run(first: Mfn, count: u64, past: Past) {
    if count == 1 && first.0 >= FIRST {
        return free_of(first, 0, past);
    }
    let (mut at, end) = (first.0.max(FIRST), first.add(count).0);
    while at < end {
        let fits = (end - at).ilog2();
        let order = at.trailing_zeros().min(fits).min(MAX_ORDER);
        free_of(Mfn(at), order, past);
        at += 1 << order;
    }
}

/// Allocates one zeroed frame for the hypervisor.
pub fn alloc_frame(place: Where) -> Option<Mfn> {
    alloc_order(0, place)
}

/// Allocates a zeroed block of 2^`order` frames, aligned to its size. The frames are in use by the hypervisor
/// ([`DomId::INVALID`]) and have no references.
pub fn alloc_order(order: u32, place: Where) -> Option<Mfn> {
    alloc_order_for(order, place, Past::NOBODY)
}

/// As [`alloc_order`], for the user `past`. Frames that it freed itself are not zeroed.
pub fn alloc_order_for(order: u32, place: Where, past: Past) -> Option<Mfn> {
    alloc_leaving(0, order, place, past)
}

/// As [`alloc_order_for`], but fails unless at least `leave` frames stay free afterwards. The frames are subtracted
/// from the free count before the lists are searched, so concurrent allocations together leave at least that many.
pub fn alloc_leaving(leave: u64, order: u32, place: Where, past: Past) -> Option<Mfn> {
    host_init();
    if order > MAX_ORDER {
        return None;
    }
    let count = 1 << order;
    let take = |free: u64| free.checked_sub(count).filter(|left| *left >= leave);
    FREE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        .ok()?;
    let Some(first) = BUDDIES.lock().take_any(order, place) else {
        FREE.fetch_add(count, Ordering::Relaxed);
        return None;
    };
    let (mut flushed, mut were_dirty) = (None, 0);
    for n in 0..1u64 << order {
        let mfn = first.add(n);
        let Some(frame) = frames().raw(mfn) else {
            continue;
        };
        let stamp = frame.stamp.load(Ordering::Relaxed);
        let left_by = Past::take_from(frame);
        if flushed != Some((stamp, left_by)) {
            stale::flush(stamp, || left_by);
            flushed = Some((stamp, left_by));
        }
        if frame.load().has(State::DIRTY) {
            if !past.may_see(left_by) {
                directmap::zero(mfn);
            }
            were_dirty += 1;
            frame.state.store(State::USED, Ordering::Release);
        }
    }
    DIRTY.fetch_sub(were_dirty, Ordering::Relaxed);
    Some(first)
}

/// Frees a block that only the hypervisor used.
pub fn free(first: Mfn, order: u32) {
    free_of(first, order, Past::NOBODY);
}

fn free_of(first: Mfn, order: u32, past: Past) {
    let now = stale::now();
    for n in 0..1u64 << order {
        if let Some(frame) = frames().raw(first.add(n)) {
            reset(frame, now, past);
        }
    }
    DIRTY.fetch_add(1 << order, Ordering::Relaxed);
    let mut buddies = BUDDIES.lock();
    if order > 0 || !buddies.keep_loose(first) {
        buddies.give(first, order);
    }
    drop(buddies);
    // Counted last, so that every frame that is counted as free is on a list.
    FREE.fetch_add(1 << order, Ordering::Relaxed);
}

/// Resets a frame's entry to that of a free, dirty frame.
fn reset(frame: &Frame, now: u32, past: Past) {
    frame.set_owner(DomId::INVALID);
    past.note_in(frame);
    frame.linear.store(0, Ordering::Relaxed);
    frame.stamp.store(now, Ordering::Relaxed);
    frame
        .state
        .store(State::FREE | State::DIRTY, Ordering::Release);
}

/// Sets a free frame's entry to that of a frame in use by the hypervisor.
fn take_up(frame: &Frame) {
    let dirty = frame.load().0 & State::DIRTY;
    frame.state.store(State::USED | dirty, Ordering::Release);
    frame.set_owner(DomId::INVALID);
}

/// Scrubs one free frame, for a CPU that is idle. Returns whether there may be more to scrub.
pub fn scrub_some() -> bool {
    if DIRTY.load(Ordering::Relaxed) == 0 {
        return false;
    }
    // Allocations need the lock more: an idle CPU doesn't wait for it here, and doesn't hold it while it zeroes the
    // frame.
    let Some(dirty) = BUDDIES.try_lock().map(|mut it| it.take_dirty(64)) else {
        return true;
    };
    if dirty.is_none() {
        // The remaining dirty frames may be loose. Put them back on the lists, where the next search finds them.
        BUDDIES.lock().join_loose();
    }
    if let Some((mfn, frame)) = dirty {
        stale::flush(frame.stamp.load(Ordering::Relaxed), || Past::of(frame));
        directmap::zero(mfn);
        frame.state.fetch_and(!State::DIRTY, Ordering::Release);
        DIRTY.fetch_sub(1, Ordering::Relaxed);
        BUDDIES.lock().give(mfn, 0);
    }
    true
}

impl Buddies {
    const fn new() -> Self {
        Self {
            heads: [[0; ORDERS]; ZONES],
            filled: [0; ZONES],
            zones: 0,
            loose: Loose::new(),
            scrub_at: 1,
        }
    }

    /// Takes a loose frame if that satisfies the request, or else a block from the lists. If no block is large
    /// enough, the loose frames are joined with their buddies first.
    fn take_any(&mut self, order: u32, place: Where) -> Option<Mfn> {
        if order == 0
            && let Some((mfn, frame)) = self.loose.take(place.top_zone())
        {
            take_up(frame);
            return Some(mfn);
        }
        let found = self.take(order, place);
        if found.is_some() || order == 0 {
            return found;
        }
        self.join_loose();
        self.take(order, place)
    }

    /// Keeps a free frame loose if there is room and no higher zone has free blocks. A frame of a lower zone must not
    /// be allocated before those of a higher one.
    fn keep_loose(&mut self, mfn: Mfn) -> bool {
        let higher_zones = self.zones >> zone_of(mfn) >> 1;
        higher_zones == 0
            && frames()
                .raw(mfn)
                .is_some_and(|frame| self.loose.keep(mfn, frame))
    }

    fn join_loose(&mut self) {
        while let Some((mfn, _)) = self.loose.take(ZONES) {
            self.give(mfn, 0);
        }
    }

    /// Takes the smallest sufficient block from the highest zone allowed that has one.
    fn take(&mut self, order: u32, place: Where) -> Option<Mfn> {
        let zone = self.zone_for(order, place)?;
        let mut found = order + (self.filled[zone] >> order).trailing_zeros();
        let first = Mfn(u64::from(self.heads[zone][found as usize]));
        self.unlink(first, found);
        while found > order {
            found -= 1;
            // The upper half returns to the lists, so the first frame stays the same.
            self.link(first.add(1 << found), found);
        }
        for n in 0..1u64 << order {
            if let Some(frame) = frames().raw(first.add(n)) {
                take_up(frame);
            }
        }
        Some(first)
    }

    /// The highest zone allowed that has a block of at least `order`.
    fn zone_for(&self, order: u32, place: Where) -> Option<usize> {
        let mut zones = self.zones & (u64::MAX >> (63 - place.top_zone()));
        while zones != 0 {
            let zone = zones.ilog2() as usize;
            if self.filled[zone] >> order != 0 {
                return Some(zone);
            }
            zones &= !(1 << zone);
        }
        None
    }

    /// Puts a block on the lists after joining it with its free buddies.
    fn give(&mut self, first: Mfn, order: u32) {
        let (mut first, mut order) = (first, order);
        while order < MAX_ORDER {
            let buddy = Mfn(first.0 ^ 1 << order);
            if !self.is_free_block(buddy, order) {
                break;
            }
            self.unlink(buddy, order);
            first = first.min(buddy);
            order += 1;
        }
        self.link(first, order);
    }

    fn is_free_block(&self, mfn: Mfn, order: u32) -> bool {
        mfn.0 != 0
            && frames().raw(mfn).is_some_and(|f| {
                let state = f.load();
                state.kind() == Kind::Free && state.has(State::HEAD) && f.order() == order
            })
    }

    fn link(&mut self, first: Mfn, order: u32) {
        let zone = zone_of(first);
        let head = &mut self.heads[zone][order as usize];
        if let Some(frame) = frames().raw(first) {
            frame.set_order(order);
            frame.state.fetch_or(State::HEAD, Ordering::Release);
            frame.next.store(*head, Ordering::Relaxed);
            frame.prev.store(0, Ordering::Relaxed);
        }
        if let Some(old) = linked(*head) {
            old.prev.store(first.0 as u32, Ordering::Relaxed);
        }
        *head = first.0 as u32;
        self.filled[zone] |= 1 << order;
        self.zones |= 1 << zone;
    }

    fn unlink(&mut self, first: Mfn, order: u32) {
        let zone = zone_of(first);
        let Some(frame) = frames().raw(first) else {
            return;
        };
        frame.state.fetch_and(!State::HEAD, Ordering::Release);
        let next = frame.next.load(Ordering::Relaxed);
        let prev = frame.prev.load(Ordering::Relaxed);
        if let Some(next) = linked(next) {
            next.prev.store(prev, Ordering::Relaxed);
        }
        match linked(prev) {
            Some(prev) => prev.next.store(next, Ordering::Relaxed),
            None => {
                self.heads[zone][order as usize] = next;
                if next == 0 {
                    self.filled[zone] &= !(1 << order);
                    if self.filled[zone] == 0 {
                        self.zones &= !(1 << zone);
                    }
                }
            }
        }
    }

    /// Examines up to `frames_seen` frames for one that is free and dirty, and takes it off the lists.
    fn take_dirty(&mut self, frames_seen: u64) -> Option<(Mfn, &'static Frame)> {
        for _ in 0..frames_seen {
            let mfn = Mfn(self.scrub_at);
            self.scrub_at = if mfn.0 + 1 < END.load(Ordering::Relaxed) {
                mfn.0 + 1
            } else {
                1
            };
            let Some(frame) = frames().raw(mfn) else {
                continue;
            };
            let state = frame.load();
            if state.kind() == Kind::Free && state.has(State::DIRTY) && self.isolate(mfn) {
                return Some((mfn, frame));
            }
        }
        None
    }

    /// Takes one frame out of the free block that contains it. The rest of the block stays on the lists. Returns
    /// false if no listed block contains the frame.
    fn isolate(&mut self, mfn: Mfn) -> bool {
        let start = |order: u32| Mfn(mfn.0 >> order << order);
        let Some(order) = (0..=MAX_ORDER).find(|order| self.is_free_block(start(*order), *order))
        else {
            return false;
        };
        self.unlink(start(order), order);
        for half in (0..order).rev() {
            // The half that doesn't contain the frame.
            self.link(Mfn(start(half).0 ^ 1 << half), half);
        }
        true
    }
}

/// The zone of a block. All its frame numbers have the same number of bits, because the block is aligned and doesn't
/// start at 0.
const fn zone_of(first: Mfn) -> usize {
    let bits = (u64::BITS - first.0.leading_zeros()) as usize;
    if bits < ZONES { bits } else { ZONES - 1 }
}

fn linked(mfn: u32) -> Option<&'static Frame> {
    if mfn == 0 {
        None
    } else {
        frames().raw(Mfn(u64::from(mfn)))
    }
}

/// On the host, adds the fake machine's memory on first use.
fn host_init() {
    #[cfg(not(target_os = "none"))]
    {
        static DONE: crate::kit::Once<()> = crate::kit::Once::new();
        DONE.call_once(|| {
            let ram = super::host::ram();
            add_free(ram.start, ram.end);
        });
    }
}

#[cfg(test)]
mod tests;
