//! Rows about I/O ports, for a domain that has them.

#![expect(unsafe_code, reason = "reads and writes an I/O port")]

use core::arch::asm;

use xenlike_rt::abi::physdev::{PHYSDEVOP_SET_IOPL, PhysdevSetIopl};
use xenlike_rt::abi::xen::SIF_PRIVILEGED;
use xenlike_rt::{hyper, start_info};

use crate::meter;

/// The port of power-on self-test codes: a latch without effect.
const POST: u16 = 0x80;

/// Measures all rows of this module.
pub fn measure() {
    if start_info().flags & SIF_PRIVILEGED == 0 {
        return;
    }
    let mut level = PhysdevSetIopl { iopl: 1 };
    hyper::physdev_op(PHYSDEVOP_SET_IOPL, &mut level).expect("an I/O privilege level");
    // SAFETY: accesses to the latch have no effect.
    unsafe {
        meter::measure("port_in", || {
            asm!("in al, dx", in("dx") POST, out("al") _, options(nomem, nostack));
        });
        meter::measure("port_out", || {
            asm!("out dx, al", in("dx") POST, in("al") 0_u8, options(nomem, nostack));
        });
    }
}
