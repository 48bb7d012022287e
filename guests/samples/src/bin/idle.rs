//! Claim: an idle domain costs only its memory. It sleeps until it is told to go: by a line `quit` on its console, by
//! a request to power off as from `xl shutdown`, or by being destroyed.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;

use xenlike_rt::xenstore::{Fault, Store};
use xenlike_rt::{console, events, println, start_info};

xenlike_rt::entry!(main);

/// The node in which a toolstack writes a request. The kernel empties it when it accepts the request.
const WISH: &str = "control/shutdown";

fn main() {
    println!("idle, until a line says quit");
    let mut store = Store::open();
    if let Some(store) = &mut store
        && let Err(fault) = store.watch(WISH, "wish")
    {
        println!("no wishes are heard: {fault}");
    }
    let console = start_info().console_evtchn;
    let store_port = store.as_ref().map(Store::port);
    let ports: alloc::vec::Vec<events::Port> = [console].into_iter().chain(store_port).collect();
    let mut line = String::new();
    loop {
        // An event after this check ends the sleep.
        for &port in &ports {
            events::take(port);
        }
        let asked = store
            .as_mut()
            .is_some_and(|store| has_wish(store).unwrap_or(false));
        if asked || says_quit(&mut line) {
            println!("PASS idle");
            return;
        }
        let _ = events::wait(&ports, 0);
    }
}

/// Takes the store's events; accepts a request to power off.
fn has_wish(store: &mut Store) -> Result<bool, Fault> {
    while store.event()?.is_some() {
        if store.read(WISH)? == b"poweroff" {
            store.write(WISH, b"")?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads typed bytes; returns whether there was a line `quit`.
fn says_quit(line: &mut String) -> bool {
    let mut bytes = [0; 64];
    loop {
        let count = console::read(&mut bytes);
        for byte in &bytes[..count] {
            match byte {
                b'\r' | b'\n' if line == "quit" => return true,
                b'\r' | b'\n' => line.clear(),
                byte => line.push(char::from(*byte)),
            }
        }
        if count == 0 {
            return false;
        }
    }
}
