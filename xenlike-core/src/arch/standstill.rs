//! All CPUs stand still while one of them looks at everything: for the audit of test builds.
//!
//! Who asks raises [`work::AUDIT`] on all CPUs. Each comes to [`stand`] on its way out of ring 0, where
//! it holds no lock and has nothing half-done; the last to come is alone with the machine, and lets the
//! others go afterwards. A CPU that stands answers flushes, and goes once more to ask the scheduler if
//! it is told to: a CPU that is not there yet may wait for a vCPU to come off this one.

use super::{percpu, work};
use crate::kit::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::kit::lock::wait_step;

/// A standstill has been asked for and has not been yet.
static WANTED: AtomicBool = AtomicBool::new(false);
/// How many CPUs stand; [`ALONE`] once one of them acts.
static STANDING: AtomicU32 = AtomicU32::new(0);
/// How many standstills there have been.
static ROUND: AtomicU32 = AtomicU32::new(0);
const ALONE: u32 = 1 << 31;

/// Asks for a standstill; gives its number. It is while this CPU is on its way out of ring 0.
pub fn request() -> u32 {
    // None can be under way: this CPU does not stand.
    WANTED.store(true, Ordering::SeqCst);
    for cpu in percpu::online().iter() {
        work::raise(cpu, work::AUDIT);
    }
    ROUND.load(Ordering::SeqCst).wrapping_add(1)
}

/// Where a standstill is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It has been.
    Past,
    /// It has been asked for.
    Coming,
    /// Nobody has asked for it.
    Unknown,
}

/// Where the standstill with this number is, as far as a CPU that does not stand can tell.
pub fn stage(number: u32) -> Stage {
    match number.wrapping_sub(ROUND.load(Ordering::SeqCst)) {
        1 if WANTED.load(Ordering::SeqCst) => Stage::Coming,
        ahead if ahead == 0 || ahead > 1 << 31 => Stage::Past,
        _ => Stage::Unknown,
    }
}

/// Stands still with the others; `act` is called on one CPU, while all stand. Only where this CPU holds
/// no lock and nothing is half-done.
pub fn stand(act: impl FnOnce()) {
    let round = ROUND.load(Ordering::SeqCst);
    if !WANTED.load(Ordering::SeqCst) {
        // The bit was raised by one who asked twice for what has been.
        return;
    }
    STANDING.fetch_add(1, Ordering::SeqCst);
    while ROUND.load(Ordering::SeqCst) == round {
        let count = STANDING.load(Ordering::SeqCst);
        if count == percpu::online().count() && swap(count, count | ALONE) {
            act();
            WANTED.store(false, Ordering::SeqCst);
            STANDING.store(0, Ordering::SeqCst);
            ROUND.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let must_go = percpu::info().work.load(Ordering::Acquire) & work::SCHEDULE != 0;
        if must_go && count & ALONE == 0 && swap(count, count.wrapping_sub(1)) {
            return work::raise_here(work::AUDIT);
        }
        wait_step();
    }
}

fn swap(from: u32, to: u32) -> bool {
    let swapped = STANDING.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
    swapped.is_ok()
}
