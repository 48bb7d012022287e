//! The hypervisor's own end: exceptions that it doesn't expect, and machine checks.

use crate::arch::frame::TrapFrame;
use crate::arch::{cr, machine_check, percpu, time};
use crate::kit::CpuId;

/// Panics for an exception in ring 0 that isn't expected, which is a bug of the hypervisor.
pub fn fatal(frame: &TrapFrame, what: &str) -> ! {
    panic!(
        "{what}\n{}\ncr2 {:016x} cr3 {:016x}",
        frame,
        cr::cr2(),
        cr::read_cr3()
    );
}

/// Panics for a machine check, after which a CPU can't continue (SDM vol. 3, "Machine-Check Exceptions"). It may be raised
/// on all CPUs at once while only one has the error in its banks. So each CPU notes its own errors and waits for the others,
/// and the first one to panic reports them all.
pub fn machine_check(frame: &TrapFrame) -> ! {
    const OTHERS_NOTE_NS: u64 = 1_000_000;
    const BOOT_CPU_PANICS_NS: u64 = 20_000_000;
    machine_check::note_worst();
    // If all CPUs have it, the boot CPU is to report, as it is the one that INIT must not stop.
    time::wait_ns(match percpu::this_cpu() {
        CpuId(0) => OTHERS_NOTE_NS,
        _ => BOOT_CPU_PANICS_NS,
    });
    panic!("machine check\n{}{frame}", machine_check::Worst);
}
