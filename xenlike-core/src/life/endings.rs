//! The end of the two domains that no toolstack destroys. With domain 0, the machine ends. The boot domain ends
//! when it has started another domain as domain 0, and everything that it had is freed.

use core::fmt::{self, Arguments};

use crate::arch::{halt, power, stop, time, work};
use crate::console;
use crate::domain::{self, Domain};
use crate::kit::{COMMAND_LINE, DomId};
use crate::life::destroy::{Progress, destroy};
use guest_pv_abi::sched::{
    SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_SOFT_RESET, SHUTDOWN_SUSPEND,
    SHUTDOWN_WATCHDOG,
};

/// How long the last messages stay readable before the machine restarts after a crash, in seconds (as on Xen).
const READABLE_S: u64 = 5;

/// Handles the shutdown of domain 0 or the boot domain, on the exit path from ring 0. Called again later while
/// the vCPU that asked for it is still on its CPU.
pub fn act() {
    if let Some(reason) = domain::lookup(DomId::DOM0).and_then(|dom| reason_of(&dom)) {
        return end_machine("domain 0", reason);
    }
    let Some(boot) = domain::lookup(DomId::BOOT) else {
        return;
    };
    let Some(reason) = reason_of(&boot) else {
        return;
    };
    if reason != SHUTDOWN_POWEROFF || domain::lookup(DomId::DOM0).is_none() {
        // The boot domain's messages on the console say why it could not start domain 0.
        end_machine("the boot domain", reason);
        return;
    }
    console::leave_screen();
    if destroy(&boot) == Progress::Again {
        // The exit path returns to here at once, without executing any instruction of a guest in between.
        halt::let_interrupts_in();
        work::raise_here(work::LIFE);
    }
}

fn reason_of(dom: &Domain) -> Option<u32> {
    dom.shutdown.lock().reason
}

/// Ends the machine, because `who` has ended, without which there is nothing to run. The reasons have the same
/// effects as on Xen.
fn end_machine(who: &str, reason: u32) {
    let stays = COMMAND_LINE
        .get()
        .is_some_and(|line| line.split_whitespace().any(|w| w == "noreboot"));
    match reason {
        SHUTDOWN_SUSPEND => {}
        SHUTDOWN_POWEROFF => leave(format_args!("{who} has shut down: switching off"), off),
        SHUTDOWN_REBOOT => leave(
            format_args!("{who} has shut down: restarting"),
            power::restart,
        ),
        _ if stays => leave(
            format_args!(
                "{who} has {}: 'noreboot' says to stop here",
                Unplanned(reason)
            ),
            power::halt,
        ),
        _ => leave(
            format_args!(
                "{who} has {}: restarting in {READABLE_S} seconds",
                Unplanned(reason)
            ),
            restart_later,
        ),
    }
}

/// A reason for which a domain was not expected to end.
struct Unplanned(u32);

impl fmt::Display for Unplanned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SHUTDOWN_CRASH => f.write_str("crashed"),
            SHUTDOWN_WATCHDOG => f.write_str("let its watchdog run out"),
            SHUTDOWN_SOFT_RESET => f.write_str("asked for a soft reset, which there is none"),
            unknown => write!(f, "shut down for the unknown reason {unknown}"),
        }
    }
}

/// Restarts the machine after a person has had time to read the messages.
fn restart_later() -> ! {
    let end_ns = time::now_ns().saturating_add(READABLE_S * 1_000_000_000);
    while time::now_ns() < end_ns {
        core::hint::spin_loop();
    }
    power::restart()
}

/// Switches the machine off on domain 0's request (XENPF_enter_acpi_sleep). `words` are what domain 0 would
/// write to the control registers PM1a and PM1b. Returns if the FADT names no such register.
pub fn switch_off(words: [u16; 2]) {
    if !power::take_sleep_types(words) {
        log::warn!(
            "domain 0 asked to switch the machine off, and the FADT names no register for that"
        );
        return;
    }
    leave(format_args!("domain 0 switches the machine off"), off)
}

fn off() -> ! {
    power::off();
    // The other CPUs have been stopped, and one of them may hold the console's lock.
    console::panic_print(format_args!(
        "The machine did not switch off. Switch it off by hand.\n"
    ));
    power::halt()
}

fn leave(sentence: Arguments<'_>, act: fn() -> !) -> ! {
    log::info!("{sentence}");
    console::drain();
    stop::stop_others();
    act()
}
