//! The two domains that no toolstack ends: with domain 0 the machine ends, and when the boot domain
//! has made another the domain 0, all that it had goes back.

use crate::arch::{power, work};
use crate::console;
use crate::domain::{self, Domain};
use crate::kit::{COMMAND_LINE, DomId};
use crate::life::destroy::{Progress, destroy};
use guest_pv_abi::sched::{SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_SUSPEND};

/// Acts on the end of domain 0 or the boot domain; on the way out of ring 0. While the vCPU that asked
/// for it is still on its CPU, this is put off.
pub fn act() {
    if let Some(reason) = domain::lookup(DomId::DOM0).and_then(|dom| reason_of(&dom)) {
        return end_machine(reason);
    }
    let Some(boot) = domain::lookup(DomId::BOOT) else {
        return;
    };
    let Some(reason) = reason_of(&boot) else {
        return;
    };
    if reason != SHUTDOWN_POWEROFF || domain::lookup(DomId::DOM0).is_none() {
        end_machine(reason);
    } else if destroy(&boot) == Progress::Again {
        work::raise_here(work::LIFE);
    }
}

fn reason_of(dom: &Domain) -> Option<u32> {
    dom.shutdown.lock().reason
}

/// What the end of domain 0 means for the machine (as on Xen).
fn end_machine(reason: u32) {
    if reason == SHUTDOWN_SUSPEND {
        return;
    }
    let stays = COMMAND_LINE
        .get()
        .is_some_and(|line| line.split_whitespace().any(|w| w == "noreboot"));
    let end: (&str, fn() -> !) = match reason {
        SHUTDOWN_POWEROFF => ("domain 0 has shut down: switching off", power::off),
        SHUTDOWN_REBOOT => ("domain 0 has shut down: restarting", power::restart),
        _ if stays => (
            "domain 0 has crashed: 'noreboot' says to stop here",
            power::halt,
        ),
        _ => ("domain 0 has crashed: restarting", power::restart),
    };
    let (sentence, act) = end;
    leave(sentence, act)
}

/// Switches the machine off on domain 0's word (XENPF_enter_acpi_sleep).
pub fn switch_off() -> ! {
    leave("domain 0 switches the machine off", power::off)
}

fn leave(sentence: &str, act: fn() -> !) -> ! {
    log::info!("{sentence}");
    console::drain();
    power::stop_others();
    act()
}
