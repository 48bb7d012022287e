//! Two domains on one CPU: an event there and back, and what a switch costs.

use core::sync::atomic::{AtomicBool, Ordering};

use xenlike_rt::events::{self, Port};
use xenlike_rt::hyper;

use crate::children::{Child, Nursery};
use crate::meter;

/// Round trips of one round.
const LOOPS: u64 = 200;

static ANSWERED: AtomicBool = AtomicBool::new(false);

/// The answer's handler.
pub fn note(_: Port) {
    ANSWERED.store(true, Ordering::Relaxed);
}

/// Measures them.
pub fn measure(nursery: &mut Nursery) {
    with_child(nursery, "handler", |port| {
        events::on(port, note);
        meter::repeat("event_peer_and_back", LOOPS, || there_and_back(port));
    });
    with_child(nursery, "poll", |port| {
        events::mask_port(port);
        // There and back are two switches.
        meter::batch("domain_switch", 2 * LOOPS, || {
            for _ in 0..LOOPS {
                polled(port);
            }
        });
    });
}

/// Runs `action` with a port to a child that plays `role`.
pub fn with_child(nursery: &mut Nursery, role: &str, action: impl FnOnce(Port)) {
    let child = nursery.raise(role);
    let port = connect(child);
    action(port);
    let _ = events::close(port);
    nursery.destroy(child);
}

/// This domain's end of the child's channel, once the child listens.
pub fn connect(child: Child) -> Port {
    let port = events::bind_interdomain(child.id.0, child.port.0).expect("bound");
    // It comes to its first wait by itself.
    while !child.said().contains("entry_tsc") {
        hyper::yield_now();
    }
    for _ in 0..100 {
        hyper::yield_now();
    }
    // A new connection signals this end once, so that nothing sent before is missed.
    events::take(port);
    port
}

/// Sends, and sleeps until the answer's upcall. Upcalls are closed but while asleep: the answer can't come
/// between the look and the sleep.
pub fn there_and_back(port: Port) {
    events::close_upcalls();
    ANSWERED.store(false, Ordering::Relaxed);
    events::send(port).expect("sent");
    while !ANSWERED.load(Ordering::Relaxed) {
        hyper::block();
        events::close_upcalls();
    }
}

/// Sends, and polls for the answer.
fn polled(port: Port) {
    events::send(port).expect("sent");
    while !events::take(port) {
        events::wait(&[port], 0).expect("polled");
    }
}
