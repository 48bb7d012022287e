//! Two domains on one CPU: the cost of an event to the other domain and back, and of a switch.

use core::sync::atomic::{AtomicBool, Ordering};

use xenlike_rt::events::{self, Port};
use xenlike_rt::hyper;

use super::children::{Child, Nursery};
use crate::meter;

/// Round trips in one round.
const LOOPS: u64 = 200;

static ANSWERED: AtomicBool = AtomicBool::new(false);

/// The handler of the answer's event.
pub fn note(_: Port) {
    ANSWERED.store(true, Ordering::Relaxed);
}

/// Measures all rows of this module.
pub fn measure(nursery: &mut Nursery) {
    with_child(nursery, "handler", |port| {
        events::on(port, note);
        meter::repeat("event_peer_and_back", LOOPS, || there_and_back(port));
    });
    with_child(nursery, "poll", |port| {
        events::mask_port(port);
        // A round trip consists of two switches.
        meter::batch("domain_switch", 2 * LOOPS, || {
            for _ in 0..LOOPS {
                polled(port);
            }
        });
    });
}

/// Runs `action` with a port that is connected to a child in the role `role`.
pub fn with_child(nursery: &mut Nursery, role: &str, action: impl FnOnce(Port)) {
    let child = nursery.raise(role);
    let port = connect(child);
    action(port);
    let _ = events::close(port);
    nursery.destroy(child);
}

/// Connects to the child's channel once the child is listening.
pub fn connect(child: Child) -> Port {
    let port = events::bind_interdomain(child.id.0, child.port.0).expect("bound");
    // The child reaches its first wait without help.
    while !child.said().contains("entry_tsc") {
        hyper::yield_now();
    }
    for _ in 0..100 {
        hyper::yield_now();
    }
    // A new connection signals this end once, so that no earlier event is lost.
    events::take(port);
    port
}

/// Sends an event, and sleeps until the answer's upcall. Upcalls are masked except while asleep, so the answer can't
/// arrive between the check and the sleep.
pub fn there_and_back(port: Port) {
    events::close_upcalls();
    ANSWERED.store(false, Ordering::Relaxed);
    events::send(port).expect("sent");
    while !ANSWERED.load(Ordering::Relaxed) {
        hyper::block();
        events::close_upcalls();
    }
}

/// Sends an event, and polls for the answer.
fn polled(port: Port) {
    events::send(port).expect("sent");
    while !events::take(port) {
        events::wait(&[port], 0).expect("polled");
    }
}
