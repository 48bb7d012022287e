//! What a person reads when a guest or the core itself could not go on.

use crate::arch::frame::TrapFrame;
use crate::arch::{cr, msr};
use crate::hypercall::Ctx;

/// Logs the registers of the vCPU that runs here.
pub fn guest(ctx: &Ctx<'_>) {
    let r = &*ctx.regs;
    let mode = if ctx.st.in_kernel { "kernel" } else { "user" };
    log::warn!(
        "{:?}{:?} in {mode} mode, last fault address {:#x}",
        ctx.dom.id(),
        ctx.vcpu.id,
        ctx.st.cr2
    );
    log::warn!("{r}");
}

/// An exception in ring 0 that nothing expected: the hypervisor's own bug.
pub fn fatal(frame: &TrapFrame, what: &str) -> ! {
    panic!(
        "{what}\n{}\ncr2 {:016x} cr3 {:016x}",
        frame,
        cr::cr2(),
        cr::read_cr3()
    );
}

/// A machine check: what the banks hold, then the end (SDM vol. 3 §17.3.2).
pub fn machine_check(frame: &TrapFrame) -> ! {
    panic!("machine check\n{Banks}{frame}");
}

/// This CPU's machine-check banks, for a panic's message: it is put together on the stack for panics, for which the
/// exception's own stack has no room.
struct Banks;

impl core::fmt::Display for Banks {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const MCG_CAP: u32 = 0x179;
        const MC0_CTL: u32 = 0x400;
        let banks = msr::read_safe(MCG_CAP).unwrap_or(0) as u8;
        for bank in 0..u32::from(banks).min(32) {
            let status = msr::read_safe(MC0_CTL + 4 * bank + 1).unwrap_or(0);
            if status >> 63 != 0 {
                let address = msr::read_safe(MC0_CTL + 4 * bank + 2).unwrap_or(0);
                writeln!(
                    f,
                    "bank {bank}: status {status:#018x} address {address:#018x}"
                )?;
            }
        }
        Ok(())
    }
}
