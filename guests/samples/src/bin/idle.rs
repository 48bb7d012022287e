//! Claim: a domain that waits for nothing costs nothing but its memory. It sleeps until it is told to
//! go: it takes a line `quit` on its console, or is destroyed.

#![no_std]
#![no_main]

use xenlike_rt::{console, events, println, start_info};

xenlike_rt::entry!(main);

fn main() {
    println!("idle, until a line says quit");
    let port = start_info().console_evtchn;
    let mut line = alloc::string::String::new();
    loop {
        let mut bytes = [0; 64];
        let count = console::read(&mut bytes);
        for byte in &bytes[..count] {
            match byte {
                b'\r' | b'\n' if line == "quit" => {
                    println!("PASS idle");
                    return;
                }
                b'\r' | b'\n' => line.clear(),
                byte => line.push(char::from(*byte)),
            }
        }
        events::take(port);
        if count == 0 {
            let _ = events::wait(&[port], 0);
        }
    }
}

extern crate alloc;
