//! Deadlines: a queue for each CPU, and a [`Timer`] handle in each object that has a deadline.
//!
//! A timer waits in the queue of the CPU on which it was set. That CPU calls [`Timers::pop_expired`] from its timer
//! interrupt and acts on the keys that it gets: keys, because the queues know no domain (docs/adr/0004).
//! [`Timers::set_if`] and [`Timers::cancel`] may be called on any CPU. A timer that is set again just as it expires may be
//! reported once too early, so code that acts on a key checks whether its time has come. Uses `kit`, and asks
//! `mm::heap` whether the heap may grow.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(feature = "audit")]
mod audit;
#[cfg(test)]
mod tests;

use crate::kit::atomic::{AtomicU64, Ordering};
use alloc::vec::Vec;

use crate::kit::cell::PerCpu;
use crate::kit::indexed_heap::{IndexedHeap, NoMemory, Places};
use crate::kit::{CpuId, DomId, Lock, MAX_CPUS, Rank, VcpuId};
use crate::mm::heap;

/// The purpose of a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// VCPUOP_set_singleshot_timer, or the set_timer_op hypercall.
    Singleshot,
    /// VCPUOP_set_periodic_timer, the period of a vCPU.
    Periodic,
    /// The time limit of SCHEDOP_poll.
    Poll,
    /// A SCHEDOP_watchdog of the domain; the watchdog's number less one.
    Watchdog(u8),
    /// Periodic upkeep of a CPU ([`Key::UPKEEP`]).
    Upkeep,
}

/// Names a deadline: its owner and its purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The domain that owns it.
    pub dom: DomId,
    /// The vCPU that owns it; 0 if the whole domain does.
    pub vcpu: VcpuId,
    /// The purpose of the deadline.
    pub what: What,
}

impl Key {
    /// The deadline of a CPU's own upkeep, which belongs to no domain.
    pub const UPKEEP: Self = Self {
        dom: DomId::IDLE,
        vcpu: VcpuId(0),
        what: What::Upkeep,
    };
}

/// The owner's handle on a deadline.
#[derive(Debug)]
pub struct Timer {
    key: Key,
    place: Lock<Option<Place>>,
}

/// The place in the queues that a timer was last given.
#[derive(Debug, Clone, Copy)]
struct Place {
    cpu: CpuId,
    slot: u32,
    use_number: u32,
}

impl Timer {
    /// Makes a timer that is not set.
    pub const fn new(key: Key) -> Self {
        Self {
            key,
            place: Lock::new(Rank::TimerPlace, None),
        }
    }
    /// The owner and the purpose of the timer.
    #[cfg(test)]
    pub const fn key(&self) -> Key {
        self.key
    }
}

/// The timer queues of all CPUs.
pub struct Timers {
    heaps: PerCpu<CpuTimers>,
}

struct CpuTimers {
    heap: Lock<Heap>,
    /// The first deadline as last published; `u64::MAX` if there is none.
    first_ns: AtomicU64,
}

impl CpuTimers {
    const fn new() -> Self {
        Self {
            heap: Lock::new(
                Rank::Timers,
                Heap {
                    order: IndexedHeap::new(),
                    slots: Slots(Vec::new()),
                    free: Vec::new(),
                },
            ),
            first_ns: AtomicU64::new(u64::MAX),
        }
    }
}

/// The bytes of heap memory that another slot may take.
const SLOT_BYTES: u64 = 64;

struct Heap {
    order: IndexedHeap,
    slots: Slots,
    free: Vec<u32>,
}

struct Slots(Vec<Slot>);

struct Slot {
    key: Key,
    use_number: u32,
    place: AtomicU64,
}

impl Places for Slots {
    fn set(&self, id: u32, place: u32) {
        if let Some(slot) = self.0.get(id as usize) {
            slot.place.store(u64::from(place), Ordering::Relaxed);
        }
    }
    fn get(&self, id: u32) -> u32 {
        self.0
            .get(id as usize)
            .map_or(u32::MAX, |slot| slot.place.load(Ordering::Relaxed) as u32)
    }
}

impl Heap {
    fn insert(&mut self, key: Key, deadline_ns: u64) -> Result<(u32, u32), NoMemory> {
        if self.free.is_empty() {
            self.add_slot(key)?;
        }
        let slot_number = self.free.pop().ok_or(NoMemory)?;
        let slot = self.slots.0.get_mut(slot_number as usize).ok_or(NoMemory)?;
        slot.key = key;
        let use_number = slot.use_number;
        self.order.push(deadline_ns, slot_number, &self.slots);
        Ok((slot_number, use_number))
    }

    fn add_slot(&mut self, key: Key) -> Result<(), NoMemory> {
        if !heap::can_grow(SLOT_BYTES) {
            return Err(NoMemory);
        }
        let count = self.slots.0.len();
        self.slots.0.try_reserve(1).map_err(|_| NoMemory)?;
        let total = count.saturating_add(1);
        self.free.try_reserve(total).map_err(|_| NoMemory)?;
        self.order.reserve(total)?;
        self.slots.0.push(Slot {
            key,
            use_number: 0,
            place: AtomicU64::new(0),
        });
        self.free.push(count as u32);
        Ok(())
    }

    fn remove(&mut self, slot_number: u32) -> Option<Key> {
        if !self.order.remove(slot_number, &self.slots) {
            return None;
        }
        self.end_use(slot_number)
    }

    /// Removes the first deadline and returns its key.
    fn pop_first(&mut self) -> Option<Key> {
        let slot_number = self.order.pop_first(&self.slots)?;
        self.end_use(slot_number)
    }

    /// Frees a slot whose deadline is gone, and returns its key.
    fn end_use(&mut self, slot_number: u32) -> Option<Key> {
        let slot = self.slots.0.get_mut(slot_number as usize)?;
        slot.use_number = slot.use_number.wrapping_add(1);
        self.free.push(slot_number);
        Some(slot.key)
    }

    /// Changes the deadline at `place`; returns false if it has expired, or the slot has been reused since.
    fn change(&mut self, place: &Place, deadline_ns: u64) -> bool {
        self.is_set(place) && self.order.change(place.slot, deadline_ns, &self.slots)
    }

    /// Whether the deadline at `place` is still to come.
    fn is_set(&self, place: &Place) -> bool {
        let slot = self.slots.0.get(place.slot as usize);
        slot.is_some_and(|slot| slot.use_number == place.use_number)
    }

    fn first_ns(&self) -> u64 {
        self.order.first().map_or(u64::MAX, |item| item.0)
    }
}

impl Timers {
    /// Makes queues without any deadlines.
    pub const fn new() -> Self {
        Self {
            heaps: PerCpu::new([const { CpuTimers::new() }; MAX_CPUS]),
        }
    }

    /// Sets a timer for a test.
    #[cfg(test)]
    pub fn set(&self, timer: &Timer, cpu: CpuId, deadline_ns: u64) -> Result<(), NoMemory> {
        self.set_if(timer, cpu, deadline_ns, |_| true).map(drop)
    }

    /// Sets `timer` to expire on `cpu` at `deadline_ns`, in place of its previous deadline, if `wanted` returns true. The
    /// argument of `wanted` tells whether the timer is set already. The caller makes the hardware timer of that CPU
    /// interrupt by then. If memory is short, a previous deadline on another CPU is cancelled nevertheless.
    ///
    /// No other CPU sets or cancels the timer during the call. So code that first changes what `wanted` reads, and then
    /// cancels the timer, knows that it stays cancelled.
    pub fn set_if(
        &self,
        timer: &Timer,
        cpu: CpuId,
        deadline_ns: u64,
        wanted: impl FnOnce(&dyn Fn() -> bool) -> bool,
    ) -> Result<bool, NoMemory> {
        // Locked throughout, and before any queue (ranks `TimerPlace`, `Timers`).
        let mut place = timer.place.lock();
        let is_set = |place: &Place| self.heaps.of(place.cpu).heap.lock().is_set(place);
        if !wanted(&|| place.as_ref().is_some_and(is_set)) {
            return Ok(false);
        }
        let timers = self.heaps.of(cpu);
        let elsewhere = place.take_if(|old| old.cpu != cpu);
        if let Some(old) = elsewhere {
            self.withdraw(old);
        }
        // A place whose deadline has expired is stale: `change` finds another use number, and a new slot is taken.
        let mut heap = timers.heap.lock();
        if let Some(old) = &*place
            && heap.change(old, deadline_ns)
        {
            timers.first_ns.store(heap.first_ns(), Ordering::Relaxed);
            return Ok(true);
        }
        let (slot, use_number) = heap.insert(timer.key, deadline_ns)?;
        *place = Some(Place {
            cpu,
            slot,
            use_number,
        });
        timers.first_ns.store(heap.first_ns(), Ordering::Relaxed);
        Ok(true)
    }

    /// Cancels the timer. It may have expired just before.
    pub fn cancel(&self, timer: &Timer) {
        let mut place = timer.place.lock();
        if let Some(old) = place.take() {
            self.withdraw(old);
        }
    }

    /// The first deadline of `cpu`, in ns, as last published.
    pub fn next_deadline_ns(&self, cpu: CpuId) -> Option<u64> {
        let first_ns = self.heaps.of(cpu).first_ns.load(Ordering::Relaxed);
        (first_ns != u64::MAX).then_some(first_ns)
    }

    /// Removes one deadline of `cpu` that is not after `now_ns`. The caller repeats the call until there is none.
    pub fn pop_expired(&self, cpu: CpuId, now_ns: u64) -> Option<Key> {
        let timers = self.heaps.of(cpu);
        if timers.first_ns.load(Ordering::Relaxed) > now_ns {
            return None;
        }
        let mut heap = timers.heap.lock();
        if heap.first_ns() > now_ns {
            return None;
        }
        let key = heap.pop_first();
        timers.first_ns.store(heap.first_ns(), Ordering::Relaxed);
        key
    }

    fn withdraw(&self, place: Place) {
        let timers = self.heaps.of(place.cpu);
        let mut heap = timers.heap.lock();
        if heap.is_set(&place) {
            heap.remove(place.slot);
            timers.first_ns.store(heap.first_ns(), Ordering::Relaxed);
        }
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self::new()
    }
}
