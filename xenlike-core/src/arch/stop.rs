//! Stopping all other CPUs for good, before the machine ends.
//!
//! An NMI reaches a CPU whatever it is doing. INIT would restart the boot CPU in its firmware while this CPU is
//! still printing (SDM vol. 3 §9.4.1), so it is only sent to application processors that don't answer the NMI. The
//! first CPU that calls [`stop_others`] ends the machine; the others stay where the NMI hit them. The boot CPU can
//! still do one thing: firmware expects resets and sleep states from it alone, so it performs them for the CPU
//! that ends the machine ([`super::power`]).

use super::{lapic, percpu, power, time};
use crate::kit::atomic::{AtomicU32, Ordering};
use crate::kit::{AtomicCpuSet, CpuId, CpuSet};

const BOOT_CPU: CpuId = CpuId(0);
const NO_CPU: u32 = u32::MAX;
/// How long a CPU may take to answer, in TSC ticks, as a panic may come before there is a clock. About half a second.
const PATIENCE: u64 = 1 << 30;

/// The CPU that ends the machine.
static STOPPER: AtomicU32 = AtomicU32::new(NO_CPU);
/// The CPUs that have stopped.
static STOPPED: AtomicCpuSet = AtomicCpuSet::new(CpuSet::EMPTY);

/// Makes this CPU the one that ends the machine, and stops all others. Doesn't return if another CPU was first.
pub fn stop_others() {
    let me = percpu::this_cpu();
    match STOPPER.compare_exchange(NO_CPU, me.0, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => {}
        Err(first) if first == me.0 => return,
        Err(_) => stay(),
    }
    let others = percpu::online().without(CpuSet::one(me));
    for cpu in others.iter() {
        lapic::send_nmi(cpu);
    }
    wait_until(|| others.iter().all(|cpu| STOPPED.get().contains(cpu)));
    let stopped = STOPPED.get();
    for cpu in others.iter().filter(|cpu| !stopped.contains(*cpu)) {
        if cpu != BOOT_CPU {
            lapic::send_init(lapic::id_of(cpu));
        }
    }
}

/// NMI handlers call this first. Doesn't return if another CPU ends the machine.
pub fn stop_if_told() {
    let stopper = STOPPER.load(Ordering::SeqCst);
    if stopper != NO_CPU && stopper != percpu::this_cpu().0 {
        stay();
    }
}

/// Whether the boot CPU waits for a request to end the machine.
pub(super) fn boot_cpu_waits() -> bool {
    percpu::this_cpu() != BOOT_CPU && STOPPED.get().contains(BOOT_CPU)
}

/// Stays here for good, with interrupts off.
fn stay() -> ! {
    let me = percpu::this_cpu();
    STOPPED.insert(me);
    if me == BOOT_CPU {
        power::act_when_told()
    }
    power::halt_cpu()
}

/// Waits until `done` returns true, for a limited time.
pub(super) fn wait_until(done: impl Fn() -> bool) {
    let start = time::tsc();
    while !done() && time::tsc().wrapping_sub(start) < PATIENCE {
        core::hint::spin_loop();
    }
}
