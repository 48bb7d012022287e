//! The frames of a domain, and how it gets them. How they leave it is in [`super::leaving`].

use crate::kit::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use alloc::boxed::Box;

use guest_pv_abi::Width;

use super::ldt_pages::LdtPages;
use super::lists::{Lists, linked};
use super::{Memory, PageType, Refused, Types};
use crate::arch::tlb;
use crate::kit::rangeset::RangeSet;
use crate::kit::{CpuSet, DomId, Lock, Mfn, Once, Rank, VcpuId};
use crate::mm::alloc::{Past, Where};
use crate::mm::frame::State;

/// Whether frames that a domain gets or loses change its charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Charge {
    /// The frames are charged.
    Counted,
    /// The frames are exchanged for others whose charge remains.
    Exchanged,
}

/// Why a domain can't have more frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRoom {
    /// The domain is being destroyed (EINVAL).
    Dying,
    /// The domain would exceed its maximum (E2BIG or ENOMEM).
    OverMax,
    /// There is no memory (ENOMEM).
    NoMemory,
}

/// The frames of a domain.
#[derive(Debug)]
pub struct DomainPages {
    id: AtomicU16,
    past: Past,
    pub(super) lists: Lock<Lists>,
    /// The number of frames that are charged to the domain. The next field is their maximum.
    pub(super) total: AtomicU64,
    max: AtomicU64,
    /// The number of the hypervisor's frames that the domain may map.
    pub(super) shared: AtomicU64,
    dying: AtomicBool,
    /// Whether the guest is narrow. It changes only under the lock of the lists, and only without frames.
    narrow: AtomicBool,
    /// The number of frames that are set aside for it, see [`super::claims`].
    pub(super) claimed: AtomicU64,
    device_rights: AtomicBool,
    /// Whether entries that are not present must follow the rule of [`super::l1tf`].
    hides_absent: AtomicBool,
    /// The entry for the per-domain slot of the domain's L4s.
    own_slot: AtomicU64,
    /// Machine frames outside RAM that the domain may map.
    pub io_memory: Lock<RangeSet>,
    /// The LDT pages of its vCPUs, once these exist.
    ldt_pages: Once<Box<[LdtPages]>>,
}

impl DomainPages {
    /// A new domain without frames, which may have up to `max`.
    pub fn new(id: DomId, max: u64) -> Self {
        Self {
            id: AtomicU16::new(id.0),
            past: Past::unique(),
            lists: Lock::new(Rank::FrameLists, Lists::default()),
            total: AtomicU64::new(0),
            max: AtomicU64::new(max),
            shared: AtomicU64::new(0),
            dying: AtomicBool::new(false),
            narrow: AtomicBool::new(false),
            claimed: AtomicU64::new(0),
            device_rights: AtomicBool::new(false),
            hides_absent: AtomicBool::new(false),
            own_slot: AtomicU64::new(0),
            io_memory: Lock::new(Rank::Settings, RangeSet::default()),
            ldt_pages: Once::new(),
        }
    }
    /// Sets the LDT pages of the domain's vCPUs. A second call has no effect.
    pub fn set_ldt_pages(&self, pages: Box<[LdtPages]>) {
        self.ldt_pages.call_once(|| pages);
    }
    /// The LDT pages of a vCPU.
    pub fn ldt_pages(&self, vcpu: VcpuId) -> Option<&LdtPages> {
        self.ldt_pages.get()?.get(vcpu.0 as usize)
    }
    /// Takes all pages out of a vCPU's LDT window. If this returns true, the caller flushes the TLB of the CPU that runs
    /// the vCPU.
    #[must_use]
    pub fn drop_ldt_pages_of(&self, vcpu: VcpuId) -> bool {
        self.ldt_pages(vcpu).is_some_and(LdtPages::drop_all)
    }
    /// Takes all pages out of the LDT windows of the domain's vCPUs, because a mapping of a page of descriptors is gone.
    /// Returns when no CPU uses such a page any more.
    pub(super) fn drop_ldt_pages(&self) {
        let windows = self.ldt_pages.get().into_iter().flatten();
        // Only CPUs whose own window had a page are flushed: each has run since the last flush, to look a descriptor up.
        // One that is in a long hypercall meanwhile, and would answer late, is not waited for again and again.
        let cpus = windows
            .filter(|pages| pages.drop_all())
            .filter_map(LdtPages::cpu)
            .fold(CpuSet::EMPTY, CpuSet::with);
        if !cpus.is_empty() {
            tlb::flush_cpus(cpus);
        }
    }
    /// Returns the id of the domain.
    pub fn id(&self) -> DomId {
        DomId(self.id.load(Ordering::Acquire))
    }
    /// Returns the number by which the allocator knows the frames that the domain has given back.
    pub const fn past(&self) -> Past {
        self.past
    }
    /// Returns the width of the guest, which decides the format of its page tables.
    pub fn width(&self) -> Width {
        match self.narrow.load(Ordering::Relaxed) {
            false => Width::Wide,
            true => Width::Narrow,
        }
    }
    /// Returns the limit on the addresses of the domain's frames.
    pub fn reach(&self) -> Where {
        match self.width() {
            Width::Wide => Where::ANY,
            Width::Narrow => Where::narrow(),
        }
    }
    /// The flag that the states of the domain's frames have. It is constant while the lists are locked.
    pub(super) fn frame_flag(&self) -> u64 {
        u64::from(self.narrow.load(Ordering::Relaxed)).wrapping_mul(State::NARROW)
    }
    /// Whether the domain's mappings may choose how they are cached.
    pub fn has_device_rights(&self) -> bool {
        self.device_rights.load(Ordering::Relaxed)
    }
    /// Permits the domain's mappings to choose how they are cached.
    pub fn give_device_rights(&self) {
        self.device_rights.store(true, Ordering::Relaxed);
    }
    /// Whether entries of the domain's tables that are not present must follow the rule of [`super::l1tf`].
    pub fn hides_absent(&self) -> bool {
        self.hides_absent.load(Ordering::Relaxed)
    }
    /// Sets [`Self::hides_absent`]. Call this before the domain has a page table.
    pub fn set_hides_absent(&self, whether: bool) {
        self.hides_absent.store(whether, Ordering::Relaxed);
    }
    /// Returns the number of frames that the domain has (tot_pages).
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
    /// Returns the maximum number of frames (max_pages).
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }
    /// Sets the maximum number of frames. Frames above it stay.
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
    }
    /// Returns the number of the hypervisor's frames that are shared with the domain.
    pub fn shared(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }
    /// Whether the domain has no frames left.
    pub fn is_empty(&self) -> bool {
        self.total() == 0 && self.shared() == 0
    }
    /// Makes the domain dying: it gets no more frames and no more pins.
    pub fn set_dying(&self) {
        let _lists = self.lists.lock();
        self.dying.store(true, Ordering::SeqCst);
        self.use_claim(u64::MAX);
    }
    /// Whether the domain is being destroyed.
    pub fn is_dying(&self) -> bool {
        self.dying.load(Ordering::SeqCst)
    }
    /// Charges the domain for `count` frames. It either gets them as [`Charge::Exchanged`], or the caller
    /// undoes the charge by [`Types::uncharge`].
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
    /// Sets the entry for the per-domain slot of the L4s that the domain will make.
    pub fn set_own_slot(&self, entry: u64) {
        self.own_slot.store(entry, Ordering::Release);
    }
    /// Returns the entry for the per-domain slot.
    pub fn own_slot(&self) -> u64 {
        self.own_slot.load(Ordering::Acquire)
    }
}

impl<M: Memory> Types<M> {
    /// Gives the domain a block of frames to which the caller has the only reference.
    pub fn assign(
        &self,
        pages: &DomainPages,
        first: Mfn,
        order: u32,
        charge: Charge,
    ) -> Result<(), NoRoom> {
        for n in 0..1u64 << order {
            if let Some(frame) = self.0.entry(first.add(n)) {
                // The previous owner is not known any more.
                let stamp = frame.stamp.load(Ordering::Relaxed);
                self.0.flush_stale(DomId::INVALID, stamp);
            }
        }
        self.assign_fresh(pages, first, order, charge)
    }

    /// Like [`Self::assign`], for frames from the allocator, which has made sure that no CPU has
    /// translations of them.
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
        let flag = pages.frame_flag();
        for n in 0..count {
            let mfn = first.add(n);
            let Some(frame) = self.0.entry(mfn) else {
                continue;
            };
            frame.set_owner(pages.id());
            Lists::push(&self.0, &mut lists.pages, mfn, frame);
            let state = State::USED | State::ALLOCATED | State::REF | flag;
            frame.state.store(state, Ordering::Release);
        }
        Ok(())
    }

    /// Takes a frame that is not in use away from its domain. The caller then has it alone, with its contents,
    /// as if it had just been allocated.
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

    /// Removes `count` frames from the domain's charge. They were charged in advance, or stolen as
    /// [`Charge::Exchanged`], and will not come. They may be the last that a dying domain waits for.
    pub fn uncharge(&self, pages: &DomainPages, count: u64) {
        let lists = pages.lists.lock();
        let gone = count.min(pages.total());
        pages.total.fetch_sub(gone, Ordering::Relaxed);
        drop(lists);
        self.tell_if_empty(pages);
    }

    /// Sets the width of a guest that has no frames yet, other than those that the hypervisor shares with it.
    pub fn set_width(&self, pages: &DomainPages, width: Width) -> Result<(), Refused> {
        let lists = pages.lists.lock();
        if width == pages.width() {
            return Ok(());
        }
        if pages.total() != 0 || pages.is_dying() {
            return Err(Refused::Busy);
        }
        pages
            .narrow
            .store(width == Width::Narrow, Ordering::Relaxed);
        let mut at = lists.shared;
        while let Some(frame) = linked(&self.0, at) {
            frame.state.fetch_xor(State::NARROW, Ordering::AcqRel);
            at = frame.next.load(Ordering::Relaxed);
        }
        Ok(())
    }

    /// Lets a domain map, also writable, a frame that the hypervisor has allocated and uses
    /// itself, until [`Self::unshare`].
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
            State::USED | State::SHARED | State::VALIDATED | held | pages.frame_flag(),
            Ordering::Release,
        );
    }

    /// Lets any domain that may map frames of [`DomId::XEN`] map this one, read-only, forever.
    pub fn share_read_only(&self, mfn: Mfn) {
        self.share_as(PageType::None, mfn);
    }

    /// Lets any domain that may map frames of [`DomId::XEN`] map this one, also writable, forever.
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

    /// Changes the owner's id of all frames of a domain, when the boot domain becomes domain 0. The
    /// caller registers the frames anew. This takes long without interruption, so a guest must not be
    /// able to request it.
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

    /// Ends [`Self::share`]. The frame is freed when its last mapping is gone.
    pub fn unshare(&self, mfn: Mfn) {
        self.put_simple(mfn);
    }
}
