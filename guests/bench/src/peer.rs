//! The second domain: reacts to events of the first.

#![expect(unsafe_code, reason = "counts in a page that the first domain reads")]

use core::sync::atomic::{AtomicU32, Ordering};

use xenlike_rt::events::{self, Port};
use xenlike_rt::{from_long, hyper, memory, start_info};

/// Answers every event with an event.
fn answer(port: Port) {
    // The other side may be gone, and then this domain is about to be destroyed.
    let _ = events::send(port);
}

/// The word in which a busy domain counts its turns: on the page of its Xenstore ring.
fn turns() -> &'static AtomicU32 {
    let page = memory::direct(memory::pfn_of_mfn(from_long(start_info().store_mfn)));
    // SAFETY: the builder mapped the page permanently, and it has no other use, since no Xenstore serves this domain.
    unsafe { &*core::ptr::with_exposed_provenance(page as usize) }
}

/// Plays the role for ever.
pub fn play(role: &str) -> ! {
    let port = start_info().store_evtchn;
    match role {
        "handler" => {
            events::on(port, answer);
            loop {
                hyper::block();
            }
        }
        "poll" => {
            events::mask_port(port);
            loop {
                let _ = events::wait(&[port], 0);
                if events::take(port) {
                    answer(port);
                }
            }
        }
        "busy" => loop {
            turns().fetch_add(1, Ordering::Relaxed);
            hyper::yield_now();
        },
        _ => loop {
            hyper::block();
        },
    }
}
