//! What a person reads when a guest or the core itself could not go on.

use crate::arch::frame::TrapFrame;
use crate::arch::{cr, machine_check, percpu, time};
use crate::kit::CpuId;

/// An exception in ring 0 that nothing expected: the hypervisor's own bug.
pub fn fatal(frame: &TrapFrame, what: &str) -> ! {
    panic!(
        "{what}\n{}\ncr2 {:016x} cr3 {:016x}",
        frame,
        cr::cr2(),
        cr::read_cr3()
    );
}

/// A machine check is the end (SDM vol. 3 §17.3.2). It may come to all CPUs at once, while only one of them has the
/// error in its banks: each notes its own, waits for the others to do so, and the first to panic tells of all.
pub fn machine_check(frame: &TrapFrame) -> ! {
    const OTHERS_NOTE_NS: u64 = 1_000_000;
    const BOOT_CPU_PANICS_NS: u64 = 20_000_000;
    machine_check::note_worst();
    // Where all are hit, the boot CPU reports: it is the one that must not be stopped by INIT.
    time::wait_ns(match percpu::this_cpu() {
        CpuId(0) => OTHERS_NOTE_NS,
        _ => BOOT_CPU_PANICS_NS,
    });
    panic!("machine check\n{}{frame}", machine_check::Worst);
}
