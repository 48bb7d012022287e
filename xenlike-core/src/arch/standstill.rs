//! All CPUs stand still while one of them examines the whole machine: for the audit of test builds.
//!
//! A CPU that asks for a standstill raises [`work::AUDIT`] on all CPUs. Each comes to [`stand`] on its way out of ring
//! 0, where it holds no lock and has nothing half-done. The first CPU that sees all CPUs there acts alone, and releases
//! the others afterwards. A CPU that stands still answers flushes. If it is told to schedule, it leaves to do so and
//! comes back: a CPU that hasn't arrived may be waiting for a vCPU to leave this one.

use super::{percpu, work};
use crate::kit::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::kit::lock::wait_step;

/// Whether a standstill was requested and has not taken place yet.
static WANTED: AtomicBool = AtomicBool::new(false);
/// The number of CPUs that stand still; with [`ALONE`] added once one of them acts.
static STANDING: AtomicU32 = AtomicU32::new(0);
/// The number of standstills that have taken place.
static ROUND: AtomicU32 = AtomicU32::new(0);
const ALONE: u32 = 1 << 31;

/// Requests a standstill and returns its number. It takes place when this CPU is on its way out of ring 0.
pub fn request() -> u32 {
    // None can be in progress, because this CPU isn't standing still.
    WANTED.store(true, Ordering::SeqCst);
    for cpu in percpu::online().iter() {
        work::raise(cpu, work::AUDIT);
    }
    ROUND.load(Ordering::SeqCst).wrapping_add(1)
}

/// The state of a standstill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It has taken place.
    Past,
    /// It was requested and has not taken place yet.
    Coming,
    /// It was never requested.
    Unknown,
}

/// The state of the standstill with this number, as seen by a CPU that isn't standing still.
pub fn stage(number: u32) -> Stage {
    match number.wrapping_sub(ROUND.load(Ordering::SeqCst)) {
        1 if WANTED.load(Ordering::SeqCst) => Stage::Coming,
        ahead if ahead == 0 || ahead > 1 << 31 => Stage::Past,
        _ => Stage::Unknown,
    }
}

/// Stands still with the others; one CPU calls `act` while all do. The caller holds no lock and has nothing half-done.
pub fn stand(act: impl FnOnce()) {
    let round = ROUND.load(Ordering::SeqCst);
    if !WANTED.load(Ordering::SeqCst) {
        // A second request raised the bit again for a standstill that has taken place.
        return;
    }
    STANDING.fetch_add(1, Ordering::SeqCst);
    while ROUND.load(Ordering::SeqCst) == round {
        let count = STANDING.load(Ordering::SeqCst);
        // Fails if another CPU acts, or if one has left to schedule.
        if count == percpu::online().count() && swap(count, count | ALONE) {
            act();
            WANTED.store(false, Ordering::SeqCst);
            STANDING.store(0, Ordering::SeqCst);
            ROUND.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let must_go = percpu::info().work.load(Ordering::Acquire) & work::SCHEDULE != 0;
        // Not once a CPU acts: then every CPU must stay.
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
