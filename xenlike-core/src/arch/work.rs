//! What a CPU has to do before it leaves ring 0: bits that any CPU may raise.

use crate::kit::atomic::Ordering;

use super::{apic_timer, ipi, percpu};
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

/// Stand still with all other CPUs: [`super::standstill`].
#[cfg(feature = "audit")]
pub const AUDIT: u32 = 64;

/// Raises `bits` on `cpu`, which will look at them soon.
pub fn raise(cpu: CpuId, bits: u32) {
    let Some(info) = percpu::info_of(cpu) else {
        return;
    };
    let before = info.work.fetch_or(bits, Ordering::AcqRel);
    // Who raised the first bit sent the interrupt; it is not taken off before they all are.
    if before == 0 {
        ipi::kick(cpu);
    }
}

/// Raises `bits` on this CPU.
pub fn raise_here(bits: u32) {
    percpu::info().work.fetch_or(bits, Ordering::AcqRel);
}

/// Takes all that has been raised on this CPU.
pub fn take() -> u32 {
    percpu::info().work.swap(0, Ordering::AcqRel)
}

/// Whether something waits for this CPU. Interrupts are off in ring 0, so what takes long asks here;
/// a deadline that came meanwhile is raised by that.
#[inline]
pub fn pending() -> bool {
    if percpu::info().work.load(Ordering::Acquire) != 0 {
        return true;
    }
    let due = apic_timer::is_due();
    if due {
        raise_here(TIMER);
    }
    due
}
