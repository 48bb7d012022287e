//! The heaps of deadlines, looked at from both ends: for the audit of test builds.

use crate::kit::atomic::Ordering;
use alloc::format;
use alloc::string::String;

use super::{Key, Places, Timer, Timers};
use crate::kit::CpuId;

/// Finds the timer of a key, and gives what the function that it is passed says of it; false without one.
pub type OnTimer<'a> = dyn Fn(Key, &dyn Fn(&Timer) -> bool) -> bool + 'a;

impl Timers {
    /// Looks at the heap of `cpu`: each deadline is in order, and the timer of its key, which `timer` finds
    /// and passes on, stands where it says. Gives the number of deadlines.
    ///
    /// # Errors
    /// It isn't so.
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

    /// Whether the timer waits in a heap.
    pub fn is_set(&self, timer: &Timer) -> bool {
        let Some(place) = *timer.place.lock() else {
            return false;
        };
        let heap = self.heaps.of(place.cpu).heap.lock();
        let slot = heap.slots.0.get(place.slot as usize);
        slot.is_some_and(|slot| slot.use_number == place.use_number)
    }
}
