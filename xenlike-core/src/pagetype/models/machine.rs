//! A simulated machine of a few frames and CPUs. Each CPU's TLB holds at most one translation.

use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

use crate::arch::tlb::{self, Stamp};
use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use crate::kit::{DomId, Mfn, lock::wait_step};
use crate::mm::Frame;
use crate::mm::alloc::Past;
use crate::mm::frame::State;
use crate::pagetype::l1tf::SafeAddresses;
use crate::pagetype::{DomainPages, IoAccess, Memory, PageType, Pte, Types, Work};

pub(super) const ME: DomId = DomId(1);
/// Flags of a mapping that allows reads, and of one that also allows writes.
pub(super) const RO: u64 = Pte::PRESENT | Pte::USER;
pub(super) const RW: u64 = RO | Pte::WRITABLE;
/// An L1 table of [`ME`], which is pinned.
pub(super) const TABLE: Mfn = Mfn(1);
/// Frames of [`ME`] that are not mapped at first.
pub(super) const DATA: Mfn = Mfn(2);
pub(super) const MORE: Mfn = Mfn(3);
/// An L2 table of [`ME`] that is not validated. Its first two entries name [`DATA`] and [`MORE`].
pub(super) const UPPER: Mfn = Mfn(4);

const FRAMES: usize = 5;
const CPUS: usize = 4;

/// The contents of a CPU's TLB, and when it was last flushed.
#[derive(Default)]
struct Cpu {
    flushed: AtomicU64,
    /// The frame to which the CPU's cached translation allows writes; 0 if there is none.
    writes_to: AtomicU64,
}

pub(super) struct Model {
    frames: Vec<Frame>,
    words: Vec<Box<[AtomicU64; 512]>>,
    pages: Arc<DomainPages>,
    cpus: [Cpu; CPUS],
    /// The number of further calls of `preempt` that return true.
    pub(super) stops: AtomicU32,
}

/// The machine. Touches each shared atomic once before the first thread starts.
pub(super) fn machine() -> Arc<Types<Model>> {
    let types = Types(Model {
        frames: (0..FRAMES).map(|_| Frame::not_ram()).collect(),
        words: (0..FRAMES)
            .map(|_| Box::new([const { AtomicU64::new(0) }; 512]))
            .collect(),
        pages: Arc::new(DomainPages::new(ME, 100)),
        cpus: Default::default(),
        stops: AtomicU32::new(0),
    });
    for frame in types.0.frames.iter().skip(1) {
        frame.set_owner(ME);
        let used = State::USED | State::ALLOCATED | State::REF;
        frame.state.store(used, Relaxed);
        let _ = frame.progress.load(Relaxed) + frame.stamp.load(Relaxed);
        let _ = frame.linear.load(Relaxed);
    }
    for word in types.0.words.iter().flat_map(|words| words.iter().take(4)) {
        word.load(Relaxed);
    }
    for cpu in &types.0.cpus {
        let _ = cpu.flushed.load(Relaxed) + cpu.writes_to.load(Relaxed);
    }
    types.0.stops.load(Relaxed);
    for (index, lower) in [DATA, MORE].into_iter().enumerate() {
        types
            .slot(UPPER, index)
            .store(Pte::new(lower, RW).0, Relaxed);
    }
    tlb::now();
    let table = types.get_page_and_type(TABLE, ME, PageType::L1, &mut Work::new());
    assert_eq!(table, Ok(()));
    Arc::new(types)
}

impl Types<Model> {
    /// Returns an entry of a table, as the CPUs and the hypervisor see it.
    pub(super) fn slot(&self, table: Mfn, index: usize) -> &AtomicU64 {
        &self.0.words[table.0 as usize][index]
    }

    pub(super) fn state(&self, mfn: Mfn) -> State {
        self.0.frames[mfn.0 as usize].load()
    }

    /// Lets a CPU write through an entry of [`TABLE`] and cache the translation.
    pub(super) fn write_through(&self, cpu: usize, index: usize) {
        let pte = Pte(self.slot(TABLE, index).load(SeqCst));
        if pte.has(RW) {
            self.0.cpus[cpu].writes_to.store(pte.mfn().0, SeqCst);
        }
    }

    /// Lets a CPU flush its TLB without being asked.
    pub(super) fn flush(&self, cpu: usize) {
        let tick = tlb::flush_begins();
        self.0.cpus[cpu].writes_to.store(0, SeqCst);
        self.0.cpus[cpu].flushed.store(tick.0, SeqCst);
    }

    /// Whether some CPU can still write to a frame, whatever the tables say.
    pub(super) fn can_be_written(&self, mfn: Mfn) -> bool {
        let holds = |cpu: &Cpu| cpu.writes_to.load(SeqCst) == mfn.0;
        self.0.cpus.iter().any(holds)
    }
}

impl Memory for Model {
    fn frame(&self, mfn: Mfn) -> Option<&Frame> {
        self.entry(mfn).filter(|_| mfn.0 > 0)
    }
    fn entry(&self, mfn: Mfn) -> Option<&Frame> {
        self.frames.get(mfn.0 as usize)
    }
    fn words(&self, mfn: Mfn) -> Option<&[AtomicU64; 512]> {
        self.words.get(mfn.0 as usize).map(|words| &**words)
    }
    fn words_of(&self, mfn: Mfn, seen: State) -> Option<&[AtomicU64; 512]> {
        self.words(mfn).filter(|_| seen.type_bits() != 0)
    }
    fn free(&self, first: Mfn, _count: u64, _past: Past) {
        panic!("{first:?} lost a reference that its owner's list holds");
    }
    fn domain(&self, _id: DomId) -> Option<Arc<DomainPages>> {
        Some(self.pages.clone())
    }
    fn emptied(&self, _id: DomId) {}
    fn segdesc_unmapped(&self, _owner: DomId) {}
    fn own_slot(&self, _owner: DomId, _ty: PageType, _slot: usize) -> u64 {
        0
    }
    fn io_access(&self, _domain: DomId, _mfn: Mfn) -> IoAccess {
        IoAccess::Nothing
    }
    fn has_device_rights(&self, _domain: DomId) -> bool {
        false
    }
    fn safe_addresses(&self, _domain: DomId) -> Option<SafeAddresses> {
        None
    }
    fn stamp(&self) -> u32 {
        tlb::now().0
    }
    /// Flushes on behalf of the CPUs that have to. They must stand still meanwhile.
    fn flush_stale(&self, _owner: DomId, stamp: u32) {
        let tick = tlb::tick_of(Stamp(stamp));
        for cpu in &self.cpus {
            if cpu.flushed.load(SeqCst) <= tick.0 {
                let tick = tlb::flush_begins();
                cpu.writes_to.store(0, SeqCst);
                cpu.flushed.store(tick.0, SeqCst);
            }
        }
    }
    fn preempt(&self) -> bool {
        let one_less = |stops: u32| stops.checked_sub(1);
        self.stops.fetch_update(SeqCst, SeqCst, one_less).is_ok()
    }
    fn wait(&self) {
        wait_step();
    }
}
