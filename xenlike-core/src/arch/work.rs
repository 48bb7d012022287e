//! What a CPU must do before it leaves ring 0: bits in its `CpuInfo::work` that any CPU may raise, and
//! the bounds for long work.

use crate::kit::atomic::{AtomicU32, Ordering};

use super::{apic_timer, ipi, percpu, time, time_up};
use crate::kit::CpuId;

/// A deadline of this CPU may have passed.
pub const TIMER: u32 = 1;
/// The scheduler must decide which vCPU runs.
pub const SCHEDULE: u32 = 2;
/// The console has input, or room for output.
pub const CONSOLE: u32 = 4;
/// Pass through the exit path, which looks at the vCPU's events; nothing else.
pub const LOOK: u32 = 8;

/// A domain whose end the core itself must handle has shut down.
pub const LIFE: u32 = 16;

/// Print the guest's registers on this CPU.
pub const DUMP: u32 = 32;

/// Correct this CPU's clock (`platform_clock`).
pub const CLOCK: u32 = 128;

/// This CPU's trace buffer has become half full.
pub const TRACE_HALF: u32 = 256;

/// Tracing was switched on or off, so the tables of handlers change.
pub const TRACE_DOORS: u32 = 512;

/// Stand still with all other CPUs ([`super::standstill`]).
#[cfg(feature = "audit")]
pub const AUDIT: u32 = 64;

/// Raises `bits` on `cpu`, which will handle them soon.
pub fn raise(cpu: CpuId, bits: u32) {
    let Some(info) = percpu::info_of(cpu) else {
        return;
    };
    if add(&info.work, bits) {
        ipi::kick(cpu);
    }
}

/// Adds bits to a CPU's word. Returns true if there were none before, so that the CPU must be interrupted. If
/// there were, the CPU is in ring 0 and will look, or the CPU that raised the first of them interrupts it, and
/// all are taken at once.
#[inline]
fn add(word: &AtomicU32, bits: u32) -> bool {
    word.fetch_or(bits, Ordering::AcqRel) == 0
}

/// Takes all bits. The exchange acquires what was stored before each bit was raised.
#[inline]
fn take_all(word: &AtomicU32) -> u32 {
    word.swap(0, Ordering::AcqRel)
}

/// Raises `bits` on this CPU, which is in ring 0 and needs no interrupt.
pub fn raise_here(bits: u32) {
    add(&percpu::info().work, bits);
}

/// Takes all bits that were raised on this CPU.
pub fn take() -> u32 {
    take_all(&percpu::info().work)
}

/// Whether there is work for this CPU. Interrupts are off in ring 0, so a deadline that has
/// passed meanwhile is raised here.
#[inline]
pub fn pending() -> bool {
    is_raised() || is_due(time::tsc())
}

#[inline]
fn is_raised() -> bool {
    percpu::info().work.load(Ordering::Acquire) != 0
}

#[inline]
fn is_due(tsc: u64) -> bool {
    let due = apic_timer::is_due(tsc);
    if due {
        raise_here(TIMER);
    }
    due
}

/// Whether long work should stop here and continue later, after the CPU has let interrupts in: there is work for this
/// CPU, or the time is up. Only the clock accounts for devices' interrupts.
#[inline(never)] // keeps its registers out of callers' loops
pub fn preempts() -> bool {
    if is_raised() {
        return true;
    }
    let tsc = time::tsc();
    is_due(tsc) || time_up::is_time_up(tsc)
}

#[cfg(all(test, loom))]
mod models {
    use super::{LOOK, SCHEDULE, TIMER, add, take_all};
    use crate::kit::atomic::AtomicU32;
    use crate::kit::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
    use crate::kit::atomic::model::explore;
    use crate::kit::lock::wait_step;
    use loom::thread;
    use std::sync::Arc;

    #[derive(Default)]
    struct Cpu {
        work: AtomicU32,
        /// Whether an interrupt is on its way.
        interrupt: AtomicU32,
        /// What the other two CPUs publish before they raise work.
        wanted: [AtomicU32; 2],
    }

    fn raise(cpu: &Cpu, who: usize, bits: u32) {
        cpu.wanted[who].store(1, Relaxed);
        if add(&cpu.work, bits) {
            cpu.interrupt.store(1, Release);
        }
    }

    /// Two CPUs raise work on a third one, which sleeps whenever it has none, as its own timer does: it never sleeps
    /// while work is raised, and it sees what was published before each bit that it took.
    #[test]
    fn no_work_is_slept_over() {
        explore(3, || {
            let cpu = Arc::new(Cpu::default());
            let touch = [&cpu.work, &cpu.interrupt, &cpu.wanted[0], &cpu.wanted[1]];
            for atomic in touch {
                atomic.load(Relaxed);
            }
            let others = [(0, SCHEDULE), (1, LOOK)].map(|(who, bits)| {
                let cpu = cpu.clone();
                thread::spawn(move || raise(&cpu, who, bits))
            });
            let mut seen = take_all(&cpu.work);
            // The timer's interrupt comes while the CPU is awake, and causes no other one.
            add(&cpu.work, TIMER);
            loop {
                seen |= take_all(&cpu.work);
                for (wanted, bits) in cpu.wanted.iter().zip([SCHEDULE, LOOK]) {
                    assert!(seen & bits == 0 || wanted.load(Relaxed) == 1);
                }
                if seen == TIMER | SCHEDULE | LOOK {
                    break;
                }
                if cpu.work.load(Acquire) != 0 {
                    continue;
                }
                // Sleeps until an interrupt comes; `sti; hlt` leaves no gap after the check.
                let woken = || cpu.interrupt.compare_exchange(1, 0, AcqRel, Acquire);
                while woken().is_err() {
                    wait_step();
                }
            }
            for other in others {
                other.join().unwrap();
            }
        });
    }
}
