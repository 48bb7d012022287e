//! Debug keys: requests to the core from a person at the serial console, whether domain 0 is alive or not.
//! `Ctrl-A` three times switches the console to them; XEN_SYSCTL_debug_keys has the same effects.

mod domains;
mod machine;

use crate::arch::{halt, power, stop, work};
use crate::console;

/// A key, its description, and the function that it calls.
struct Key {
    key: u8,
    what: &'static str,
    act: fn(),
}

const KEYS: &[Key] = &[
    key(b'h', "this list", help),
    key(b'd', "registers of what each CPU runs", machine::registers),
    key(b'q', "domains and their vCPUs", domains::all),
    key(b'r', "who runs where", domains::scheduling),
    key(b'm', "memory", machine::memory),
    key(b'u', "memory of the one node", machine::memory),
    key(b'i', "interrupts of devices", machine::interrupts),
    key(
        b'M',
        "interrupts of devices, by line and by message",
        machine::interrupts,
    ),
    key(b'c', "idle states: each CPU halts, nothing deeper", nothing),
    key(b'v', "VT-x: no domain uses it", nothing),
    key(b'I', "interrupts of HVM domains: there are none", nothing),
    key(b'b', "what a report of a fault needs", machine::report),
    key(b'w', "the log again", machine::log),
    key(b's', "how deep the stacks have been", machine::stacks),
    key(b'f', "TLB flushes asked of each CPU", machine::flushes),
    key(b't', "clocks", machine::clocks),
    key(b'n', "vCPUs that an NMI waits for", domains::nmis),
    key(b'e', "event channels", domains::events),
    key(b'g', "grant tables", domains::grants),
    key(b'0', "registers of domain 0", domains::dom0),
    #[cfg(feature = "audit")]
    key(b'a', "an audit of everything", machine::audit),
    #[cfg(feature = "audit")]
    key(
        b'x',
        "interrupts at the vectors of exceptions",
        machine::odd_vectors,
    ),
    key(b'R', "restarts the machine at once", restart),
];

const fn key(key: u8, what: &'static str, act: fn()) -> Key {
    Key { key, what, act }
}

/// Handles a press of `key`.
pub fn press(key: u8) {
    match KEYS.iter().find(|known| known.key == key) {
        Some(known) => {
            log::info!("'{}': {}", char::from(key), known.what);
            (known.act)();
        }
        None if key.is_ascii_graphic() => {
            log::info!(
                "key '{}' has no meaning; 'h' lists those that have",
                char::from(key)
            );
        }
        None => {}
    }
}

/// Called between two lines of a long answer: takes pending interrupts from time to time. Keys are handled
/// where no lock is held, and an answer holds no lock from one line to the next.
fn breathe() {
    if work::preempts() {
        halt::let_interrupts_in();
    }
}

fn help() {
    for known in KEYS {
        log::info!("  {}  {}", char::from(known.key), known.what);
    }
}

/// The description of the key is the whole answer.
fn nothing() {}

fn restart() {
    console::drain();
    stop::stop_others();
    power::restart()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_key_means_one_thing() {
        let keys: BTreeSet<u8> = KEYS.iter().map(|known| known.key).collect();
        assert_eq!(keys.len(), KEYS.len());
        // None of these needs a machine, a domain, or any particular state.
        for key in *b"hdqrmuiMcvIsbwtfng0e?\n" {
            press(key);
        }
    }
}
