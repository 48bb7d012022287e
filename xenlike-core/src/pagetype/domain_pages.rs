//! What frames a domain has, and how they come; how they go is in [`super::leaving`].

use crate::kit::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use super::lists::{Lists, linked};
use super::{Memory, PageType, Refused, Types};
use crate::kit::{DomId, Lock, Mfn, Rank};
use crate::mm::alloc::Past;
use crate::mm::frame::State;

/// Whether frames that come or go are charged to the domain's maximum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Charge {
    /// They count.
    Counted,
    /// They are in exchange for others that stay counted.
    Exchanged,
}

/// Why a domain can't have more frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRoom {
    /// It is being taken apart. -EINVAL.
    Dying,
    /// It would have more than its maximum. -E2BIG or -ENOMEM.
    OverMax,
    /// There is no memory. -ENOMEM.
    NoMemory,
}

/// A domain's frames.
#[derive(Debug)]
pub struct DomainPages {
    id: AtomicU16,
    past: Past,
    pub(super) lists: Lock<Lists>,
    /// Frames charged, and the most there may be.
    pub(super) total: AtomicU64,
    max: AtomicU64,
    /// Frames of the hypervisor's that it can map.
    pub(super) shared: AtomicU64,
    dying: AtomicBool,
    /// Frames that are set aside for it: see [`super::claims`].
    pub(super) claimed: AtomicU64,
    device_rights: AtomicBool,
    /// Whether its absent entries are held against [`super::l1tf`].
    hides_absent: AtomicBool,
    /// The entry for the per-domain slot of its L4s.
    own_slot: AtomicU64,
}

impl DomainPages {
    /// Of a new domain, which may have up to `max` frames.
    pub fn new(id: DomId, max: u64) -> Self {
        Self {
            id: AtomicU16::new(id.0),
            past: Past::unique(),
            lists: Lock::new(Rank::FrameLists, Lists::default()),
            total: AtomicU64::new(0),
            max: AtomicU64::new(max),
            shared: AtomicU64::new(0),
            dying: AtomicBool::new(false),
            claimed: AtomicU64::new(0),
            device_rights: AtomicBool::new(false),
            hides_absent: AtomicBool::new(false),
            own_slot: AtomicU64::new(0),
        }
    }
    /// Whose they are.
    pub fn id(&self) -> DomId {
        DomId(self.id.load(Ordering::Acquire))
    }
    /// By what frames are known that it has given back.
    pub const fn past(&self) -> Past {
        self.past
    }
    /// Whether its mappings may choose how they are cached.
    pub fn has_device_rights(&self) -> bool {
        self.device_rights.load(Ordering::Relaxed)
    }
    /// Lets its mappings choose how they are cached.
    pub fn give_device_rights(&self) {
        self.device_rights.store(true, Ordering::Relaxed);
    }
    /// Whether entries of its tables that are not present are held against [`super::l1tf`].
    pub fn hides_absent(&self) -> bool {
        self.hides_absent.load(Ordering::Relaxed)
    }
    /// Says so; before it has any table.
    pub fn set_hides_absent(&self, whether: bool) {
        self.hides_absent.store(whether, Ordering::Relaxed);
    }
    /// Frames it has (tot_pages).
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
    /// The most it may have (max_pages).
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }
    /// Sets the most it may have; what it has stays.
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
    }
    /// Frames of the hypervisor's that are shared with it.
    pub fn shared(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }
    /// Whether nothing of it is left.
    pub fn is_empty(&self) -> bool {
        self.total() == 0 && self.shared() == 0
    }
    /// From now on it gets no frames and no pins.
    pub fn set_dying(&self) {
        let _lists = self.lists.lock();
        self.dying.store(true, Ordering::SeqCst);
        self.use_claim(u64::MAX);
    }
    /// Whether it is being taken apart.
    pub fn is_dying(&self) -> bool {
        self.dying.load(Ordering::SeqCst)
    }
    /// Charges it with `count` frames, which it gets as [`Charge::Exchanged`], or by
    /// [`Types::uncharge`] doesn't get.
    pub fn charge(&self, count: u64) -> Result<(), NoRoom> {
        self.charge_with(count, &self.lists.lock())
    }
    fn charge_with(&self, count: u64, _held: &Lists) -> Result<(), NoRoom> {
        if self.is_dying() {
            return Err(NoRoom::Dying);
        }
        let total = self.total().saturating_add(count);
        if total > self.max() {
            return Err(NoRoom::OverMax);
        }
        self.total.store(total, Ordering::Relaxed);
        self.use_claim(count);
        Ok(())
    }
    /// Sets the entry for the per-domain slot of the L4s that it will make.
    pub fn set_own_slot(&self, entry: u64) {
        self.own_slot.store(entry, Ordering::Release);
    }
    /// The entry for the per-domain slot.
    pub fn own_slot(&self) -> u64 {
        self.own_slot.load(Ordering::Acquire)
    }
}

impl<M: Memory> Types<M> {
    /// Gives a domain a block of frames that the caller has alone.
    pub fn assign(
        &self,
        pages: &DomainPages,
        first: Mfn,
        order: u32,
        charge: Charge,
    ) -> Result<(), NoRoom> {
        for n in 0..1u64 << order {
            if let Some(frame) = self.0.entry(first.add(n)) {
                // Whose it was is not known any more.
                let stamp = frame.stamp.load(Ordering::Relaxed);
                self.0.flush_stale(DomId::INVALID, stamp);
            }
        }
        self.assign_fresh(pages, first, order, charge)
    }

    /// As [`Self::assign`], for frames that come from the allocator, which has seen to it that no CPU
    /// has a translation of them.
    pub(super) fn assign_fresh(
        &self,
        pages: &DomainPages,
        first: Mfn,
        order: u32,
        charge: Charge,
    ) -> Result<(), NoRoom> {
        let count = 1u64 << order;
        let mut lists = pages.lists.lock();
        if charge == Charge::Counted {
            pages.charge_with(count, &lists)?;
        } else if pages.is_dying() {
            return Err(NoRoom::Dying);
        }
        for n in 0..count {
            let mfn = first.add(n);
            let Some(frame) = self.0.entry(mfn) else {
                continue;
            };
            frame.set_owner(pages.id());
            Lists::push(&self.0, &mut lists.pages, mfn, frame);
            let state = State::USED | State::ALLOCATED | State::REF;
            frame.state.store(state, Ordering::Release);
        }
        Ok(())
    }

    /// Takes a frame that nobody uses away from its domain. The caller then has it alone, with its
    /// contents, as if just allocated.
    pub fn steal(&self, pages: &DomainPages, mfn: Mfn, charge: Charge) -> Result<(), Refused> {
        let frame = self.0.frame(mfn).ok_or(Refused::Invalid)?;
        let mut lists = pages.lists.lock();
        if pages.is_dying() || frame.owner() != pages.id() {
            return Err(Refused::Invalid);
        }
        let mut state = frame.load();
        loop {
            if !state.is_alone() {
                return Err(Refused::Busy);
            }
            match frame.change(state, State::USED) {
                Ok(()) => break,
                Err(now) => state = now,
            }
        }
        lists.unlink(&self.0, mfn, frame);
        frame.set_owner(DomId::INVALID);
        frame.stamp.store(self.0.stamp(), Ordering::Relaxed);
        if charge == Charge::Counted {
            pages.total.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes `count` frames off a domain's charge that were charged or stolen as [`Charge::Exchanged`],
    /// and are not coming. They may be the last that a dying domain waited for.
    pub fn uncharge(&self, pages: &DomainPages, count: u64) {
        let lists = pages.lists.lock();
        let gone = count.min(pages.total());
        pages.total.fetch_sub(gone, Ordering::Relaxed);
        drop(lists);
        self.tell_if_empty(pages);
    }

    /// Lets a domain map, writable, a frame that the hypervisor allocated and uses itself, until
    /// [`Self::unshare`].
    pub fn share(&self, pages: &DomainPages, mfn: Mfn) {
        let Some(frame) = self.0.frame(mfn) else {
            return;
        };
        let mut lists = pages.lists.lock();
        frame.set_owner(pages.id());
        Lists::push(&self.0, &mut lists.shared, mfn, frame);
        pages.shared.fetch_add(1, Ordering::Relaxed);
        let held = State::REF | State::TYPE_REF | (PageType::Writable as u64) << State::TYPE_SHIFT;
        frame.state.store(
            State::USED | State::SHARED | State::VALIDATED | held,
            Ordering::Release,
        );
    }

    /// Lets whoever may map frames of [`DomId::XEN`] map this one, read-only, for ever.
    pub fn share_read_only(&self, mfn: Mfn) {
        self.share_as(PageType::None, mfn);
    }

    /// The same, but writable.
    pub fn share_writable(&self, mfn: Mfn) {
        self.share_as(PageType::Writable, mfn);
    }

    fn share_as(&self, ty: PageType, mfn: Mfn) {
        let Some(frame) = self.0.frame(mfn) else {
            return;
        };
        frame.set_owner(DomId::XEN);
        let held = State::REF | State::TYPE_REF | (ty as u64) << State::TYPE_SHIFT;
        frame.state.store(
            State::USED | State::SHARED | State::VALIDATED | held,
            Ordering::Release,
        );
    }

    /// Gives all that a domain has another owner's id: the boot domain becomes domain 0. The caller
    /// registers it anew. All at once: not for a guest to ask for.
    pub fn rename(&self, pages: &DomainPages, id: DomId) {
        let lists = pages.lists.lock();
        pages.id.store(id.0, Ordering::Release);
        for head in [lists.pages, lists.pinned, lists.leaving, lists.shared] {
            let mut at = head;
            while let Some(frame) = linked(&self.0, at) {
                frame.set_owner(id);
                at = frame.next.load(Ordering::Relaxed);
            }
        }
    }

    /// Ends [`Self::share`]: the frame is freed when the last that has it mapped lets go.
    pub fn unshare(&self, mfn: Mfn) {
        self.put_simple(mfn);
    }
}
