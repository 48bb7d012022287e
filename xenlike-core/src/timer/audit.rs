//! A check of the timer queues from both ends, for the audit of test builds.

use crate::kit::atomic::Ordering;
use alloc::format;
use alloc::string::String;

use super::{Key, Places, Timer, Timers};
use crate::kit::CpuId;

/// Finds the timer of a key, calls the function with it, and returns that function's result; false if
/// there is no such timer.
pub type OnTimer<'a> = dyn Fn(Key, &dyn Fn(&Timer) -> bool) -> bool + 'a;

impl Timers {
    /// Checks the queue of `cpu`: the deadlines form a heap, and the timer of each key, which `on_timer` finds, refers
    /// to its place in it. Returns the number of deadlines.
    ///
    /// # Errors
    /// A description of the first inconsistency.
    pub fn check(&self, cpu: CpuId, on_timer: &OnTimer<'_>) -> Result<u64, String> {
        let timers = self.heaps.of(cpu);
        let heap = timers.heap.lock();
        if heap.first_ns() != timers.first_ns.load(Ordering::Relaxed) {
            return Err(format!(
                "{cpu:?}: its first deadline is not the one published"
            ));
        }
        let items = heap.order.near_front(usize::MAX);
        if items.len().saturating_add(heap.free.len()) != heap.slots.0.len() {
            return Err(format!("{cpu:?}: some deadlines are neither set nor free"));
        }
        for (at, &(deadline_ns, id)) in items.iter().enumerate() {
            let parent = items.get(at.saturating_sub(1) / 2);
            let slot = heap.slots.0.get(id as usize);
            let slot = slot.filter(|_| parent.is_some_and(|parent| parent.0 <= deadline_ns));
            let slot = slot.filter(|_| heap.slots.get(id) as usize == at);
            let Some(slot) = slot else {
                return Err(format!(
                    "{cpu:?}: its heap of deadlines is out of order at {at}"
                ));
            };
            let is_here = |timer: &Timer| {
                let place = timer.place.lock();
                place.is_some_and(|p| (p.cpu, p.slot, p.use_number) == (cpu, id, slot.use_number))
            };
            if !on_timer(slot.key, &is_here) {
                return Err(format!(
                    "{cpu:?}: a deadline for {:?}, whose timer isn't set so",
                    slot.key
                ));
            }
        }
        Ok(items.len() as u64)
    }

    /// Whether the timer is in a queue.
    pub fn is_set(&self, timer: &Timer) -> bool {
        let Some(place) = *timer.place.lock() else {
            return false;
        };
        let heap = self.heaps.of(place.cpu).heap.lock();
        let slot = heap.slots.0.get(place.slot as usize);
        slot.is_some_and(|slot| slot.use_number == place.use_number)
    }
}
