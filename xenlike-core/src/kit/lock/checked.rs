//! Lock order in debug builds: each CPU records the locks that it holds, and checks the order before it waits. In host
//! tests each thread is a CPU.

use core::marker::PhantomData;

use super::Rank;
use crate::kit::atomic::{AtomicU64, Ordering::Relaxed};

/// What a lock has in addition to its tickets and value.
pub(super) struct Order(Rank);

/// What a guard has in addition; dropped when the holder unlocks.
pub(super) struct Turn<'a> {
    place: u64,
    lock: PhantomData<&'a Order>,
}

/// The places of the locks that a CPU holds; 0 marks a free slot. No path holds as many as 16 locks.
type Held = [AtomicU64; 16];

impl Order {
    pub const fn new(rank: Rank) -> Self {
        Self(rank)
    }

    /// The lock's place in the order of all locks: its rank in bits 63 to 48, below it its address.
    fn place(&self) -> u64 {
        let address = core::ptr::from_ref(self).addr() as u64;
        (self.0 as u64) << 48 | address & ((1 << 48) - 1)
    }

    /// Panics if this CPU must not wait for the lock now.
    pub fn check(&self) {
        let place = self.place();
        let highest = held(|held| held.iter().map(|slot| slot.load(Relaxed)).max());
        let highest = highest.unwrap_or(0);
        assert!(
            highest < place,
            "{:?} is waited for while a lock of rank {} is held ({place:#x} after {highest:#x})",
            self.0,
            highest >> 48
        );
    }

    /// Records that this CPU has acquired the lock.
    pub fn enter(&self) -> Turn<'_> {
        let place = self.place();
        exchange(0, place);
        Turn {
            place,
            lock: PhantomData,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        exchange(self.place, 0);
    }
}

fn exchange(old: u64, new: u64) {
    let found = held(|held| {
        let slot = held.iter().find(|slot| slot.load(Relaxed) == old);
        slot.map(|slot| slot.store(new, Relaxed)).is_some()
    });
    assert!(
        found,
        "no note of a lock that is given back, or too many locks"
    );
}

#[cfg(not(target_os = "none"))]
fn held<R>(act: impl FnOnce(&Held) -> R) -> R {
    std::thread_local! {
        static HELD: Held = const { [const { AtomicU64::new(0) }; 16] };
    }
    HELD.with(act)
}

#[cfg(target_os = "none")]
use metal::held;
#[cfg(target_os = "none")]
pub use metal::set_this_cpu;

#[cfg(target_os = "none")]
mod metal {
    use super::{AtomicU64, Held};
    use crate::kit::cell::PerCpu;
    use crate::kit::{CpuId, MAX_CPUS, Once};

    static HELD: PerCpu<Held> =
        PerCpu::new([const { [const { AtomicU64::new(0) }; 16] }; MAX_CPUS]);
    static THIS_CPU: Once<fn() -> CpuId> = Once::new();

    /// Sets the function by which a CPU learns its number. Until then there is only CPU 0.
    pub fn set_this_cpu(this_cpu: fn() -> CpuId) {
        THIS_CPU.call_once(|| this_cpu);
    }

    pub fn held<R>(act: impl FnOnce(&Held) -> R) -> R {
        let cpu = THIS_CPU.get().map_or(CpuId(0), |this_cpu| this_cpu());
        act(HELD.of(cpu))
    }
}
