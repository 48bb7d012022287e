//! I/O breakpoints: only with CR4.DE, and on ports that the hypervisor emulates.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use xenlike_rt::abi::errno::{self, Errno};
use xenlike_rt::abi::hypercall as nr;
use xenlike_rt::abi::physdev::{PHYSDEVOP_SET_IOPL, PhysdevSetIopl};
use xenlike_rt::{hyper, traps};

use crate::{call, check, raised, set_cr4, width};

const DE: usize = 1 << 3;
const FIXED: u64 = 0x400;
/// Breakpoint 0: local, of a type that is invalid without DE; breakpoint 1: local, I/O, two bytes.
const IO: u64 = 1 << 2 | 2 << 20 | 1 << 22;
const DEBUG: u8 = 1;
/// A delay port, without any device.
const PORT: u16 = 0x80;

static STATUS: AtomicU64 = AtomicU64::new(0);
static RIP: AtomicU64 = AtomicU64::new(0);

fn get(register: u64) -> Result<u64, Errno> {
    call(nr::GET_DEBUGREG, [register, 0, 0, 0, 0])
}

fn set(register: u64, value: u64) -> Result<u64, Errno> {
    call(nr::SET_DEBUGREG, [register, value, 0, 0, 0])
}

fn debug(frame: &mut traps::TrapFrame) {
    STATUS.store(get(6).unwrap_or(0), Ordering::Relaxed);
    RIP.store(frame.instruction(), Ordering::Relaxed);
}

fn move_to_dr7(value: u64) -> u64 {
    raised(traps::attempt(|| {
        // SAFETY: a breakpoint on a port that no other code here accesses, or a trap.
        unsafe { asm!("mov dr7, {}", in(reg) value as usize) };
    }))
}

/// Reads a port. Returns DR6 as the handler saw it (0 without a trap), and whether the trap
/// came after the instruction.
fn read_port(port: u16) -> (u64, bool) {
    STATUS.store(0, Ordering::Relaxed);
    let behind = width::read_port(port);
    let status = STATUS.load(Ordering::Relaxed);
    (status, RIP.load(Ordering::Relaxed) == behind)
}

pub fn run() {
    traps::on(DEBUG, debug);
    let mut iopl = PhysdevSetIopl { iopl: 1 };
    check(
        "IOPL 1",
        hyper::physdev_op(PHYSDEVOP_SET_IOPL, &mut iopl) == Ok(0),
    );
    set_cr4(|cr4| cr4 & !DE);
    check("a port's address", set(1, u64::from(PORT)) == Ok(0));
    check(
        "I/O breakpoints need CR4.DE",
        set(7, IO) == Err(errno::EPERM),
    );
    check("by mov, too", move_to_dr7(IO) == 13);
    check(
        "whichever is enabled",
        set(7, IO & !4 | 1) == Err(errno::EPERM),
    );
    check("DR7 is as it was", get(7) == Ok(FIXED));
    check(
        "without an enabled one the type is no matter",
        set(7, IO & !4) == Ok(0),
    );
    check(
        "DR5 is DR7",
        get(5) == Ok(IO & !4 | FIXED) && set(5, 0) == Ok(0),
    );
    check("no trap", read_port(PORT).0 == 0);

    set_cr4(|cr4| cr4 | DE);
    check("an I/O breakpoint", set(7, IO) == Ok(0));
    check("it reads back", get(7) == Ok(IO | FIXED));
    check("DR5 is none with CR4.DE", get(5) == Err(errno::ENODEV));
    check("nor is DR4", set(4, 0) == Err(errno::ENODEV));
    let (status, behind) = read_port(PORT);
    check("a port access traps", status & 0xf == 2);
    check("behind the instruction", behind);
    check("the second byte, too", read_port(PORT + 1).0 & 0xf == 2);
    check(
        "no other",
        (read_port(PORT + 2).0, read_port(PORT - 1).0) == (0, 0),
    );
    hyper::yield_now();
    check("after a reschedule", read_port(PORT).0 & 0xf == 2);
    set_cr4(|cr4| cr4 & !DE);
    check("DR7 stays when CR4.DE goes", get(7) == Ok(IO | FIXED));
    check("a new DR7", move_to_dr7(1) == 0 && get(7) == Ok(1 | FIXED));
    check("replaces it", read_port(PORT).0 == 0);
    check("no breakpoint", set(7, 0) == Ok(0) && set(1, 0) == Ok(0));
}
