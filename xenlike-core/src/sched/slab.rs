//! The storage of units: numbered slots in chunks that are allocated on demand and never move. The lock of a unit's
//! home queue guards the unit; the slot's own lock is only held for short accesses.

use crate::kit::atomic::{AtomicU32, AtomicUsize, Ordering};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Spec;
use super::share::{ActiveTime, Share};
use crate::kit::indexed_heap::{self, NoMemory};
use crate::kit::{CpuId, CpuSet, Lock, Once, Rank};

const CHUNK: usize = 64;
const CHUNKS: usize = 256;

/// The id of a unit: its slot, and how often the slot had been used before. So the id of a unit that
/// was removed refers to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnitId {
    pub(super) slot: u32,
    pub(super) use_number: u32,
}

/// The scheduling state of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The unit is in no queue.
    Asleep,
    /// The unit is in the ready heap of its home.
    Queued,
    /// The unit is in the parked heap of its home, because its domain has used up its cap.
    Parked,
    /// The unit runs on its home CPU.
    Running,
    /// The unit doesn't run, but its home CPU still holds its registers.
    Leaving,
}

/// The CPUs on which a unit may run, and those that it prefers.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub hard: CpuSet,
    pub soft: CpuSet,
    /// The CPUs of the domain's pool.
    pub pool: CpuSet,
}

/// A schedulable unit: a vCPU, as the scheduler sees it.
pub(super) struct Unit<T> {
    pub id: UnitId,
    pub owner: T,
    pub share: Arc<Share>,
    pub hard: CpuSet,
    pub soft: CpuSet,
    pub state: State,
    /// Whether the unit is runnable; if so, its share counts it as active.
    wanted: bool,
    /// The domain's active time when the unit was last accounted.
    pub accounted_at: ActiveTime,
    pub vtime: u64,
    pub ran_ns: u64,
}

impl<T> Unit<T> {
    pub fn new(id: UnitId, spec: Spec, owner: T) -> Self {
        Self {
            id,
            owner,
            share: spec.share,
            hard: spec.hard,
            soft: spec.soft,
            state: State::Asleep,
            wanted: false,
            accounted_at: ActiveTime::default(),
            vtime: 0,
            ran_ns: 0,
        }
    }
    /// The virtual time that the unit pays for having run for `ran_ns` since it was last accounted.
    pub fn cost(&self, ran_ns: u64, now_ns: u64) -> u64 {
        let now = self.share.active_time(now_ns);
        self.share.virtual_time(ran_ns, self.accounted_at, now)
    }
    /// Whether a CPU holds the unit's registers.
    pub fn on_cpu(&self) -> bool {
        matches!(self.state, State::Running | State::Leaving)
    }
    /// The CPUs on which it may run and prefers to run.
    pub fn places(&self) -> Places {
        Places {
            hard: self.hard,
            soft: self.soft,
            pool: self.share.cpus(),
        }
    }
    pub fn wanted(&self) -> bool {
        self.wanted
    }
    pub fn set_wanted(&mut self, wanted: bool, now_ns: u64) {
        match (self.wanted, wanted) {
            (false, true) => self.share.activate(now_ns),
            (true, false) => self.share.deactivate(now_ns),
            _ => {}
        }
        self.wanted = wanted;
    }
}

struct Slot<T> {
    home: AtomicU32,
    place: AtomicU32,
    use_number: AtomicU32,
    unit: Lock<Option<Unit<T>>>,
}

/// The slots of all units.
pub(super) struct Slab<T> {
    chunks: [Once<Box<[Slot<T>]>>; CHUNKS],
    free: Lock<Vec<u32>>,
    slots: AtomicUsize,
    units: AtomicUsize,
}

impl<T> Slab<T> {
    pub const fn new() -> Self {
        Self {
            chunks: [const { Once::new() }; CHUNKS],
            free: Lock::new(Rank::FreeUnits, Vec::new()),
            slots: AtomicUsize::new(0),
            units: AtomicUsize::new(0),
        }
    }

    /// The number of units that exist.
    pub fn units(&self) -> usize {
        self.units.load(Ordering::Relaxed)
    }

    fn slot(&self, slot: u32) -> Option<&Slot<T>> {
        self.chunks
            .get(slot as usize / CHUNK)?
            .get()?
            .get(slot as usize % CHUNK)
    }

    /// Calls `act` with the unit, if it still exists.
    pub fn with<R>(&self, id: UnitId, act: impl FnOnce(&mut Unit<T>) -> R) -> Option<R> {
        self.with_slot(id.slot, |unit| (unit.id == id).then(|| act(unit)))?
    }

    /// Calls `act` with the unit in a slot, if there is one.
    pub fn with_slot<R>(&self, slot: u32, act: impl FnOnce(&mut Unit<T>) -> R) -> Option<R> {
        self.slot(slot)?.unit.lock().as_mut().map(act)
    }

    /// The CPU whose queue lock guards the unit.
    pub fn home(&self, id: UnitId) -> Option<CpuId> {
        let slot = self.slot(id.slot)?;
        (slot.use_number.load(Ordering::Acquire) == id.use_number)
            .then(|| CpuId(slot.home.load(Ordering::Acquire)))
    }

    /// Moves the unit to another home. The caller holds the locks of both queues.
    pub fn set_home(&self, slot: u32, home: CpuId) {
        if let Some(slot) = self.slot(slot) {
            slot.home.store(home.0, Ordering::Release);
        }
    }

    /// Adds a unit that is asleep, with home `home`.
    pub fn insert(
        &self,
        home: CpuId,
        make: impl FnOnce(UnitId) -> Unit<T>,
    ) -> Result<UnitId, NoMemory> {
        let slot_number = self.take_free()?;
        let slot = self.slot(slot_number).ok_or(NoMemory)?;
        let id = UnitId {
            slot: slot_number,
            use_number: slot.use_number.load(Ordering::Relaxed),
        };
        // Before the unit: its home must be valid once the unit can be found.
        slot.home.store(home.0, Ordering::Release);
        let unit = make(id);
        *slot.unit.lock() = Some(unit);
        self.units.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }

    /// Removes the unit and frees its slot. The caller has removed it from every queue.
    pub fn remove(&self, id: UnitId) -> Option<T> {
        let slot = self.slot(id.slot)?;
        let mut place = slot.unit.lock();
        if place.as_ref().is_none_or(|unit| unit.id != id) {
            return None;
        }
        let unit = place.take();
        // From now on the id refers to nothing, and `home` returns `None` for it.
        slot.use_number.fetch_add(1, Ordering::AcqRel);
        drop(place);
        self.free.lock().push(id.slot);
        self.units.fetch_sub(1, Ordering::Relaxed);
        unit.map(|unit| unit.owner)
    }

    fn take_free(&self) -> Result<u32, NoMemory> {
        let mut free = self.free.lock();
        if free.is_empty() {
            self.add_chunk(&mut free)?;
        }
        free.pop().ok_or(NoMemory)
    }

    fn add_chunk(&self, free: &mut Vec<u32>) -> Result<(), NoMemory> {
        let first = self.slots.load(Ordering::Relaxed);
        let chunk = self.chunks.get(first / CHUNK).ok_or(NoMemory)?;
        // There is always room for every slot, so that freeing one never allocates.
        free.try_reserve(first + CHUNK).map_err(|_| NoMemory)?;
        let mut slots = Vec::new();
        slots.try_reserve_exact(CHUNK).map_err(|_| NoMemory)?;
        slots.resize_with(CHUNK, || Slot {
            home: AtomicU32::new(0),
            place: AtomicU32::new(0),
            use_number: AtomicU32::new(0),
            unit: Lock::new(Rank::Unit, None),
        });
        chunk.call_once(|| slots.into_boxed_slice());
        free.extend((0..CHUNK).rev().map(|i| (first + i) as u32));
        self.slots.store(first + CHUNK, Ordering::Relaxed);
        Ok(())
    }
}

impl<T> indexed_heap::Places for Slab<T> {
    fn set(&self, id: u32, place: u32) {
        if let Some(slot) = self.slot(id) {
            slot.place.store(place, Ordering::Relaxed);
        }
    }
    fn get(&self, id: u32) -> u32 {
        self.slot(id)
            .map_or(u32::MAX, |slot| slot.place.load(Ordering::Relaxed))
    }
}
