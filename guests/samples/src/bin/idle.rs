//! Claim: a domain that waits for nothing costs nothing but its memory. It sleeps until it is told to
//! go: it takes a line `quit` on its console, is asked to power off as `xl shutdown` does, or is destroyed.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;

use xenlike_rt::xenstore::{Fault, Store};
use xenlike_rt::{console, events, println, start_info};

xenlike_rt::entry!(main);

/// Where a toolstack writes what it wishes; whoever takes the wish up empties the node.
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
        // What comes after this look ends the sleep.
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

/// Looks at the store's news; takes up a wish to power off.
fn has_wish(store: &mut Store) -> Result<bool, Fault> {
    while store.event()?.is_some() {
        if store.read(WISH)? == b"poweroff" {
            store.write(WISH, b"")?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes all that was typed; was there a line `quit`?
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
