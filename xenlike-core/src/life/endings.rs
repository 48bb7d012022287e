//! The two domains that no toolstack ends: with domain 0 the machine ends, and when the boot domain
//! has made another the domain 0, all that it had goes back.

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

/// How long the last lines can be read before the machine restarts after a crash, in seconds (as on Xen).
const READABLE_S: u64 = 5;

/// Acts on the end of domain 0 or the boot domain; on the way out of ring 0. While the vCPU that asked
/// for it is still on its CPU, this is put off.
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
        // What it printed says why it could not start domain 0.
        end_machine("the boot domain", reason);
        return;
    }
    console::leave_screen();
    if destroy(&boot) == Progress::Again {
        // The way out comes back here at once, without a guest's instruction in between.
        halt::let_interrupts_in();
        work::raise_here(work::LIFE);
    }
}

fn reason_of(dom: &Domain) -> Option<u32> {
    dom.shutdown.lock().reason
}

/// What the end of `who`, without which there is nothing to run, means for the machine (as on Xen).
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

/// What has happened to who ends for a reason that is none to go by.
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

/// Restarts when a person has had time to read why.
fn restart_later() -> ! {
    let end_ns = time::now_ns().saturating_add(READABLE_S * 1_000_000_000);
    while time::now_ns() < end_ns {
        core::hint::spin_loop();
    }
    power::restart()
}

/// Switches the machine off on domain 0's word (XENPF_enter_acpi_sleep), which also says what it would write
/// to PM1a and PM1b control, if there were any. Comes back if no such register is known.
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
    // The others have stopped, perhaps with the console's lock.
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
