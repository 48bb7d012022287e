//! TLB flushes: which translations may still be cached, and how to be rid of them.
//!
//! *The flush clock.* A frame whose last mapping went away gets a [`Stamp`]; before it may have a
//! new use, each CPU must have flushed after that stamp. Each CPU notes the clock when it flushes
//! everything, so most stamps are old before anybody asks, and nothing has to be sent. The clock
//! goes on only when a flush follows a stamp: its lowest bit says that the present tick is on some
//! frame. So neither stamping nor switching address spaces writes a shared line as a rule.
//!
//! *Shoot-down.* A CPU that needs others to flush counts up their request word and sends an
//! interrupt; as the core runs with interrupts off, a CPU that waits, for a lock or for another CPU,
//! answers its own request word meanwhile ([`answer`], which is the locks' waiting step).

use crate::kit::atomic::{AtomicU64, Ordering};

use super::cpuset::CpuSet;
use super::{cr, percpu};
use crate::kit::cell::PerCpu;
use crate::kit::{CpuId, MAX_CPUS, Vaddr, lock};

/// A moment of the flush clock: the low half of a tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stamp(pub u32);

/// A tick of the clock, as that shows it while the tick is on no frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tick(pub u64);

/// Tick number times two, plus one if the tick was given out as a stamp.
static CLOCK: AtomicU64 = AtomicU64::new(2);

/// One CPU's part, on a cache line of its own.
#[repr(align(64))]
struct Flushes {
    /// How many flushes others have asked it for, and how many of these it has done.
    asked: AtomicU64,
    done: AtomicU64,
}
static FLUSHES: PerCpu<Flushes> = PerCpu::new(
    [const {
        Flushes {
            asked: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }; MAX_CPUS],
);

/// The stamp for a frame that loses its last mapping now. The page-table entry is already gone, and
/// an atomic read-modify-write (the frame's count) lies between that and this call.
#[inline]
pub fn now() -> Stamp {
    let mut clock = CLOCK.load(Ordering::SeqCst);
    if clock & 1 == 0 {
        clock = CLOCK.fetch_or(1, Ordering::SeqCst);
    }
    Stamp((clock >> 1) as u32)
}

/// Before a full flush of this CPU: what to pass to [`flush_done`].
#[inline]
pub fn flush_begins() -> Tick {
    let clock = CLOCK.load(Ordering::SeqCst);
    if clock & 1 == 0 {
        return Tick(clock);
    }
    next_tick(clock)
}

/// The tick after that of `clock`, which is on some frame.
#[cold]
fn next_tick(mut clock: u64) -> Tick {
    while clock & 1 != 0 {
        let next = clock.wrapping_add(1);
        match CLOCK.compare_exchange(clock, next, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return Tick(next),
            Err(now) => clock = now,
        }
    }
    Tick(clock)
}

/// After a full flush of this CPU that began at `tick`.
#[inline]
pub fn flush_done(tick: Tick) {
    percpu::info().flushed.store(tick.0, Ordering::Release);
}

/// The latest tick that `stamp` can stand for: an older one is treated as if it were that.
pub fn tick_of(stamp: Stamp) -> Tick {
    let clock = CLOCK.load(Ordering::SeqCst) >> 1;
    let age = (clock as u32).wrapping_sub(stamp.0);
    Tick(clock.wrapping_sub(u64::from(age)) << 1)
}

/// Forgets every cached translation of this CPU.
#[inline]
#[expect(unsafe_code, reason = "reloads CR3")]
pub fn flush_local() {
    let tick = flush_begins();
    // SAFETY: the same tables again.
    unsafe { cr::write_cr3(cr::read_cr3()) };
    flush_done(tick);
}

/// Forgets this CPU's translation of one page, in the current address space.
#[cfg(target_os = "none")]
#[inline]
#[expect(unsafe_code, reason = "invlpg")]
pub fn invlpg_local(at: Vaddr) {
    // SAFETY: drops a cached translation; the tables hold the truth.
    unsafe { core::arch::asm!("invlpg [{}]", in(reg) at.0, options(nostack, preserves_flags)) };
}

/// Nothing is cached on the host.
#[cfg(not(target_os = "none"))]
pub fn invlpg_local(_at: Vaddr) {}

/// Makes sure that each CPU has flushed after `stamp`.
#[inline]
pub fn flush_stale(stamp: Stamp) {
    let stale = stale_cpus(stamp);
    if !stale.is_empty() {
        flush_cpus(stale);
    }
}

/// The CPUs that have not flushed since `stamp`.
pub fn stale_cpus(stamp: Stamp) -> CpuSet {
    let tick = tick_of(stamp).0;
    let stale = |cpu: &CpuId| {
        // A CPU without a block has never run, and holds nothing.
        percpu::flushed_of(*cpu).is_some_and(|flushed| flushed.load(Ordering::SeqCst) <= tick)
    };
    percpu::online()
        .iter()
        .filter(stale)
        .fold(CpuSet::EMPTY, CpuSet::with)
}

/// Forgets every cached translation on all CPUs, and returns when it is done.
#[inline]
pub fn flush_all() {
    flush_cpus(percpu::online());
}

/// Forgets every cached translation on these CPUs, and returns when it is done.
#[inline]
pub fn flush_cpus(cpus: CpuSet) {
    if cpus == CpuSet::one(percpu::this_cpu()) {
        flush_local();
    } else {
        flush_others(cpus);
    }
}

/// As [`flush_cpus`], where not only this one is meant.
#[inline(never)] // its frame is not for a CPU by itself to carry
fn flush_others(cpus: CpuSet) {
    let me = percpu::this_cpu();
    let others = cpus.and(percpu::online()).without(me);
    let mut until = [0_u64; MAX_CPUS];
    for (cpu, slot) in others.iter().map(|cpu| (cpu, cpu.index())) {
        until[slot % MAX_CPUS] = FLUSHES.of(cpu).asked.fetch_add(1, Ordering::SeqCst) + 1;
        super::ipi::send(cpu, super::ipi::Vector::TlbFlush);
    }
    if cpus.contains(me) {
        flush_local();
    }
    for cpu in others.iter() {
        while FLUSHES.of(cpu).done.load(Ordering::SeqCst) < until[cpu.index() % MAX_CPUS] {
            lock::wait_step();
        }
    }
}

/// Forgets one page of an address space on these CPUs. Beyond this CPU a whole flush does it.
pub fn invlpg_cpus(cpus: CpuSet, at: Vaddr) {
    let me = percpu::this_cpu();
    if cpus.contains(me) {
        invlpg_local(at);
    }
    let others = cpus.without(me);
    if !others.is_empty() {
        flush_cpus(others);
    }
}

/// Does the flushes others have asked this CPU for: from their interrupt, and from every wait.
pub fn answer() {
    let mine = FLUSHES.of(percpu::this_cpu());
    let asked = mine.asked.load(Ordering::SeqCst);
    if mine.done.load(Ordering::Relaxed) != asked {
        flush_local();
        mine.done.store(asked, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_makes_older_stamps_harmless() {
        percpu::set_online();
        let before = now();
        assert!(!stale_cpus(before).is_empty());
        flush_stale(before);
        assert!(stale_cpus(before).is_empty());
        let after = now();
        assert_ne!(before, after);
        assert!(!stale_cpus(after).is_empty());
    }

    #[test]
    fn stamps_of_one_tick_are_equal() {
        let clock = CLOCK.load(Ordering::SeqCst);
        let (a, b) = (now(), now());
        // Another test may flush in between; then the clock went on.
        assert!(a == b || CLOCK.load(Ordering::SeqCst) > clock + 1);
    }
}
