//! What a CPU has to do before it leaves ring 0: bits that any CPU may raise.

use crate::kit::atomic::{AtomicU32, Ordering};

use super::{apic_timer, ipi, percpu, time, time_up};
use crate::kit::CpuId;

/// A deadline may have passed.
pub const TIMER: u32 = 1;
/// Ask the scheduler who runs.
pub const SCHEDULE: u32 = 2;
/// The console has input or room for output.
pub const CONSOLE: u32 = 4;
/// Nothing but coming through the way out, to look at the vCPU's events.
pub const LOOK: u32 = 8;

/// A domain whose end is the core's own business has shut down.
pub const LIFE: u32 = 16;

/// Tell which registers the CPU has in guest mode.
pub const DUMP: u32 = 32;

/// Correct this CPU's clock.
pub const CLOCK: u32 = 128;

/// This CPU's trace buffer has become half full.
pub const TRACE_HALF: u32 = 256;

/// Tracing was switched on or off.
pub const TRACE_DOORS: u32 = 512;

/// Stand still with all other CPUs: [`super::standstill`].
#[cfg(feature = "audit")]
pub const AUDIT: u32 = 64;

/// Raises `bits` on `cpu`, which will look at them soon.
pub fn raise(cpu: CpuId, bits: u32) {
    let Some(info) = percpu::info_of(cpu) else {
        return;
    };
    if add(&info.work, bits) {
        ipi::kick(cpu);
    }
}

/// Adds bits to a CPU's word; true if they are the first, so that the CPU has to be interrupted.
/// Where others are raised already, the CPU is in ring 0 and will look, or whoever raised the first
/// of them interrupts it: all are taken at once.
#[inline]
fn add(word: &AtomicU32, bits: u32) -> bool {
    word.fetch_or(bits, Ordering::AcqRel) == 0
}

/// Takes all the bits.
#[inline]
fn take_all(word: &AtomicU32) -> u32 {
    word.swap(0, Ordering::AcqRel)
}

/// Raises `bits` on this CPU.
pub fn raise_here(bits: u32) {
    add(&percpu::info().work, bits);
}

/// Takes all that has been raised on this CPU.
pub fn take() -> u32 {
    take_all(&percpu::info().work)
}

/// Whether something waits for this CPU. Interrupts are off in ring 0, so a deadline that came meanwhile is
/// raised by that.
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

/// Whether what takes long is to stop here and continue later, after the CPU has let interrupts in: something
/// waits for this CPU, or it has been at it for long. Nothing else tells of a device's interrupt.
#[inline(never)] // its registers are not for loops to spill
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
        /// An interrupt is on its way.
        interrupt: AtomicU32,
        /// What the two others want seen, stored before they raise work.
        wanted: [AtomicU32; 2],
    }

    fn raise(cpu: &Cpu, who: usize, bits: u32) {
        cpu.wanted[who].store(1, Relaxed);
        if add(&cpu.work, bits) {
            cpu.interrupt.store(1, Release);
        }
    }

    /// Two CPUs raise work on a third one, which sleeps whenever it has none, and its own timer does
    /// too: it never sleeps on with work raised, and sees what came before the bit that it took.
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
            // The timer's interrupt comes while the CPU is awake: no other follows.
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
                // Asleep until an interrupt comes; `sti; hlt` leaves no gap behind the look.
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
