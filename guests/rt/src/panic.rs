//! The panic handler: prints location and reason on the hypervisor's console and the domain's, then ends
//! the domain with SHUTDOWN_crash.

use core::fmt::Write as _;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use guest_pv_abi::sched::SHUTDOWN_CRASH;

use crate::console;

static PANICKING: AtomicBool = AtomicBool::new(false);

/// Prints the panic and ends the domain. A panic while panicking ends it without output.
pub(crate) fn panic(info: &PanicInfo<'_>) -> ! {
    if !PANICKING.swap(true, Ordering::Relaxed) {
        let cpu = crate::cpu::number();
        let _ = writeln!(console::Emergency, "guest panic on vCPU {cpu}: {info}");
    }
    crate::shutdown(SHUTDOWN_CRASH)
}

#[cfg(guest)]
#[panic_handler]
fn handler(info: &PanicInfo<'_>) -> ! {
    panic(info)
}
