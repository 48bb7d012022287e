//! The second domain: what it does with its channel to the first.

use xenlike_rt::events::{self, Port};
use xenlike_rt::{hyper, start_info};

/// Answers every event with an event.
fn answer(port: Port) {
    // The other side may be gone, and this domain with it soon.
    let _ = events::send(port);
}

/// Does as its role says, for ever.
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
            hyper::yield_now();
        },
        _ => loop {
            hyper::block();
        },
    }
}
