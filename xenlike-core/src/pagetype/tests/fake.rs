//! A simulated machine: frames and their contents, domains, and a recount of every reference.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::sync::Arc;
use std::sync::Mutex;
use std::vec::Vec;

use crate::kit::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::kit::{DomId, Mfn};
use crate::mm::Frame;
use crate::mm::alloc::Past;
use crate::mm::frame::{Kind, State};
use crate::pagetype::audit::{Borrowed, Tally};
use crate::pagetype::l1tf::SafeAddresses;
use crate::pagetype::{
    Charge, DomainPages, EntryAt, IoAccess, Memory, NoRoom, PageType, Pte, Refused, Types, Update,
    Work,
};

/// The number of frames. Frame 0 and those from this number on are not RAM.
pub(super) const FRAMES: u64 = 48;
/// A frame of I/O memory that domain 0 may map.
pub(super) const IO: Mfn = Mfn(0x1000);
/// A frame of I/O memory that domain 0 may only read.
pub(super) const IO_TABLE: Mfn = Mfn(0x2000);

pub(super) struct Fake {
    frames: Vec<Frame>,
    words: Vec<Box<[AtomicU64; 512]>>,
    free: Mutex<Vec<u64>>,
    domains: Mutex<BTreeMap<u16, Arc<DomainPages>>>,
    dice: AtomicU64,
    /// Of 256 calls of `preempt`, this many return true.
    pub(super) preempt_rate: AtomicU64,
    /// The lowest stack address from which the contents of a frame were accessed.
    pub(super) deepest: AtomicUsize,
    pub(super) clock: AtomicU32,
    pub(super) flushed: AtomicU32,
    /// How often a mapping of a page of descriptors was removed.
    pub(super) ldt_notices: AtomicU32,
    /// Set if the simulated machine is vulnerable to L1 terminal fault. Domain 0 is trusted.
    pub(super) safe: Mutex<Option<SafeAddresses>>,
}

impl Fake {
    pub(super) fn new(seed: u64) -> Types<Self> {
        let mut frames = Vec::new();
        frames.resize_with(FRAMES as usize, Frame::not_ram);
        for frame in &frames[1..] {
            frame.set_owner(DomId::INVALID);
            frame.state.store(State::FREE, Ordering::Relaxed);
        }
        let words = (0..FRAMES)
            .map(|_| Box::new([const { AtomicU64::new(0) }; 512]))
            .collect();
        Types(Self {
            frames,
            words,
            free: Mutex::new((1..FRAMES).collect()),
            domains: Mutex::default(),
            dice: AtomicU64::new(seed | 1),
            preempt_rate: AtomicU64::new(0),
            deepest: AtomicUsize::new(usize::MAX),
            clock: AtomicU32::new(1),
            flushed: AtomicU32::new(0),
            ldt_notices: AtomicU32::new(0),
            safe: Mutex::new(None),
        })
    }

    pub(super) fn roll(&self, sides: u64) -> u64 {
        let step = |x: u64| {
            Some(
                x.wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407),
            )
        };
        let x = self
            .dice
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
            .unwrap();
        (x >> 33) % sides
    }

    pub(super) fn add_domain(&self, id: u16, max: u64) -> Arc<DomainPages> {
        let pages = Arc::new(DomainPages::new(DomId(id), max));
        self.domains.lock().unwrap().insert(id, pages.clone());
        pages
    }

    pub(super) fn free_frames(&self) -> usize {
        self.free.lock().unwrap().len()
    }

    pub(super) fn state(&self, mfn: Mfn) -> State {
        self.frames[mfn.0 as usize].load()
    }

    /// Takes a free frame, like the allocator.
    pub(super) fn take(&self) -> Option<Mfn> {
        let mut free = self.free.lock().unwrap();
        if free.is_empty() {
            return None;
        }
        let at = self.roll(free.len() as u64) as usize;
        let mfn = free.swap_remove(at);
        self.frames[mfn as usize]
            .state
            .store(State::USED, Ordering::Release);
        for word in self.words[mfn as usize].iter() {
            word.store(0, Ordering::Relaxed);
        }
        Some(Mfn(mfn))
    }

    fn free_one(&self, mfn: Mfn) {
        let frame = &self.frames[mfn.0 as usize];
        assert_eq!(frame.load().refs(), 0, "{mfn:?} freed with references");
        assert_eq!(
            frame.load().type_refs(),
            0,
            "{mfn:?} freed with type references"
        );
        frame.set_owner(DomId::INVALID);
        frame.progress.store(0, Ordering::Relaxed);
        frame.linear.store(0, Ordering::Relaxed);
        frame.stamp.store(self.stamp(), Ordering::Relaxed);
        frame.state.store(State::FREE, Ordering::Release);
        self.free.lock().unwrap().push(mfn.0);
    }
}

impl Memory for Fake {
    fn frame(&self, mfn: Mfn) -> Option<&Frame> {
        self.frames
            .get(mfn.0 as usize)
            .filter(|f| f.load().kind() != Kind::NotRam)
    }
    fn entry(&self, mfn: Mfn) -> Option<&Frame> {
        self.frames.get(mfn.0 as usize)
    }
    fn words(&self, mfn: Mfn) -> Option<&[AtomicU64; 512]> {
        let here = 0u8;
        self.deepest
            .fetch_min((&raw const here).addr(), Ordering::Relaxed);
        self.frame(mfn)?;
        self.words.get(mfn.0 as usize).map(|w| &**w)
    }
    fn words_of(&self, mfn: Mfn, seen: State) -> Option<&[AtomicU64; 512]> {
        self.words(mfn).filter(|_| seen.type_bits() != 0)
    }
    fn free(&self, first: Mfn, count: u64, _past: Past) {
        (0..count).for_each(|n| self.free_one(first.add(n)));
    }
    fn domain(&self, id: DomId) -> Option<Arc<DomainPages>> {
        self.domains.lock().unwrap().get(&id.0).cloned()
    }
    fn emptied(&self, _id: DomId) {}
    fn segdesc_unmapped(&self, _owner: DomId) {
        self.ldt_notices.fetch_add(1, Ordering::Relaxed);
    }
    fn own_slot(&self, _owner: DomId, ty: PageType, slot: usize) -> u64 {
        // A domain whose id changes keeps its tables.
        match ty {
            PageType::L4 => 1 << 32 | (slot as u64) << 12,
            PageType::L2Last => 1 << 33 | (slot as u64) << 21 | Pte::PRESENT | Pte::PAT_OR_LARGE,
            _ => 0,
        }
    }
    fn io_access(&self, domain: DomId, mfn: Mfn) -> IoAccess {
        match mfn {
            IO if domain == DomId(0) => IoAccess::All,
            IO_TABLE if domain == DomId(0) => IoAccess::Read,
            _ => IoAccess::Nothing,
        }
    }
    fn has_device_rights(&self, domain: DomId) -> bool {
        domain == DomId(0)
    }
    fn safe_addresses(&self, domain: DomId) -> Option<SafeAddresses> {
        self.safe.lock().unwrap().filter(|_| domain != DomId(0))
    }
    fn stamp(&self) -> u32 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
    fn flush_stale(&self, _owner: DomId, _stamp: u32) {
        self.flushed
            .store(self.clock.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
    }
    fn preempt(&self) -> bool {
        self.roll(256) < self.preempt_rate.load(Ordering::Relaxed)
    }
    fn wait(&self) {
        std::thread::yield_now();
    }
}

impl Types<Fake> {
    pub(super) fn give(&self, pages: &DomainPages) -> Result<Mfn, NoRoom> {
        let mfn = self.0.take().ok_or(NoRoom::NoMemory)?;
        self.assign(pages, mfn, 0, Charge::Counted)
            .inspect_err(|_| {
                self.0.free(mfn, 1, Past::NOBODY);
            })?;
        Ok(mfn)
    }

    /// Changes one entry, as mmu_update does: of a table that it holds, or of a frame that is not a table.
    pub(super) fn change(
        &self,
        owner: DomId,
        update: &Update,
        work: &mut Work,
    ) -> Result<(), Refused> {
        let Some(table) = self.hold(update.table, owner) else {
            return self.write_plainly(owner, update);
        };
        let done = self.update_held(&table, update, work);
        self.put_held(table, work);
        done
    }

    pub(super) fn set(&self, mfn: Mfn, index: usize, pte: Pte) {
        self.0.words[mfn.0 as usize][index].store(pte.0, Ordering::Relaxed);
    }

    pub(super) fn get(&self, mfn: Mfn, index: usize) -> Pte {
        Pte(self.0.words[mfn.0 as usize][index].load(Ordering::Relaxed))
    }

    /// Counts all references anew and compares. `held` are frames of which the test holds a reference and a
    /// type reference, besides those of entries, pins and lists. No operation may be under way.
    pub(super) fn audit(&self, held: &[Mfn]) -> Result<(), String> {
        let mut tally = Tally::new(Mfn(FRAMES)).unwrap();
        for mfn in held {
            let ty = PageType::from_bits(self.0.state(*mfn).type_bits());
            self.count_held(&mut tally, *mfn, ty, format_args!("the test"))?;
        }
        for pages in self.0.domains.lock().unwrap().values() {
            self.count_lists(pages, &mut tally)?;
        }
        for mfn in self.0.free.lock().unwrap().iter() {
            tally.count_listed(Mfn(*mfn));
        }
        for mfn in (1..FRAMES).map(Mfn) {
            self.count_frame(mfn, &mut tally, &mut |entry| self.check_lent(entry))?;
        }
        (1..FRAMES).try_for_each(|n| self.compare_frame(Mfn(n), &mut tally))?;
        self.check_reach()
    }

    /// Domain 0 may map the frames of others; others may map domain 0's, by grants.
    fn check_lent(&self, entry: Borrowed) -> Result<(), String> {
        let owner = self.0.frames[entry.mfn.0 as usize].owner();
        if [entry.mapper, owner].contains(&DomId(0)) {
            Ok(())
        } else {
            Err(format!("{entry:?} is {owner:?}'s"))
        }
    }
}

/// What the emulation of an instruction does that stores `bytes` bytes at `offset` of a table of `owner`. Returns the
/// entry that was there.
pub fn store(
    types: &Types<Fake>,
    owner: DomId,
    table: Mfn,
    offset: usize,
    bytes: u32,
    value: u64,
) -> Result<Pte, Refused> {
    let index = offset / 8;
    let old = types.read_entry(table, index).ok_or(Refused::Invalid)?;
    let shift = (offset % 8) as u32 * 8;
    let field = (u64::MAX >> (64 - 8 * bytes)) << shift;
    let new = Pte(old.0 & !field | value << shift & field);
    types.exchange_l1_entry(owner, EntryAt { table, index }, old, new)
}
