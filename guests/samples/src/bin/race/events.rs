//! Ports that are bound, signalled, moved, polled and closed at the same time, and the arrays of FIFO event
//! channels while they grow.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use xenlike_rt::abi::event_channel::{
    EVTCHNOP_EXPAND_ARRAY, EVTCHNOP_INIT_CONTROL, EVTCHNOP_SET_PRIORITY, EvtchnExpandArray,
    EvtchnInitControl, EvtchnSetPriority,
};
use xenlike_rt::abi::xen::DOMID_SELF;
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::{events, hyper, time};

use crate::page::arena;
use crate::round::{Actor, Operation, Scenario, fail};

/// Ports with the 2-level ABI.
pub const PORTS: Scenario = Scenario {
    name: "ports",
    least: 2,
    bouts: 1,
    setup: |_| true,
    operations: &[ANY, ANY, ANY, ANY],
    check,
};

/// Ports with FIFO event channels, whose control blocks and arrays the actors register. Afterwards, the runtime's own
/// events don't arrive any more.
pub const FIFO: Scenario = Scenario {
    name: "fifo",
    least: 2,
    bouts: 1,
    setup: |_| true,
    operations: &[GROWING, GROWING, GROWING, GROWING],
    // Nothing takes events off the queues, so the ports are used up eventually.
    check: close_all,
};

const ANY: &[Operation] = &[binds_and_closes, sends, moves, polls];
const GROWING: &[Operation] = &[binds_and_closes, sends, moves, polls, grows, grows];

/// Pairs of ports that are open now.
static OPEN: [AtomicU32; 8] = [const { AtomicU32::new(0) }; 8];
/// Frames for control blocks and arrays, in order.
static PAGES: [AtomicU64; 24] = [const { AtomicU64::new(0) }; 24];

fn slot(actor: &mut Actor) -> &'static AtomicU32 {
    &OPEN[actor.random.below(OPEN.len() as u64) as usize]
}

/// Opens a pair of connected ports, or closes one.
fn binds_and_closes(actor: &mut Actor) {
    while actor.goes_on() {
        let place = slot(actor);
        let there = place.swap(0, Ordering::AcqRel);
        if there != 0 {
            let _ = events::close(there & 0xffff);
            actor.pause();
            let _ = events::close(there >> 16);
            continue;
        }
        let Ok(one) = events::alloc_unbound(arena().own) else {
            continue;
        };
        actor.pause();
        let Ok(two) = events::bind_interdomain(arena().own, one) else {
            let _ = events::close(one);
            continue;
        };
        let other = place.swap((one << 16) | two, Ordering::AcqRel);
        for port in [other & 0xffff, other >> 16] {
            if port != 0 {
                let _ = events::close(port);
            }
        }
    }
}

fn sends(actor: &mut Actor) {
    while actor.goes_on() {
        let ports = slot(actor).load(Ordering::Acquire);
        let _ = events::send(ports & 0xffff);
        actor.pause();
        events::unmask_port(ports >> 16);
    }
}

fn moves(actor: &mut Actor) {
    while actor.goes_on() {
        let ports = slot(actor).load(Ordering::Acquire);
        let _ = events::bind_vcpu(ports >> 16, actor.random.below(4) as u32);
        let mut priority = EvtchnSetPriority {
            port: ports >> 16,
            priority: actor.random.below(16) as u32,
        };
        let _ = hyper::event_channel_op(EVTCHNOP_SET_PRIORITY, &mut priority);
        actor.pause();
    }
}

fn polls(actor: &mut Actor) {
    while actor.goes_on() {
        let ports = slot(actor).load(Ordering::Acquire);
        let _ = events::wait(&[ports >> 16], time::now_ns() + 50_000);
        events::take(ports >> 16);
    }
}

/// Registers a control block of any vCPU, or a further page of event words.
fn grows(actor: &mut Actor) {
    for _ in 0..20 {
        let Some(frame) = page(actor.random.below(24) as usize) else {
            return;
        };
        let mut control = EvtchnInitControl {
            control_gfn: frame,
            offset: 0,
            vcpu: actor.random.below(4) as u32,
            ..EvtchnInitControl::default()
        };
        let _ = hyper::event_channel_op(EVTCHNOP_INIT_CONTROL, &mut control);
        actor.pause();
        let mut array = EvtchnExpandArray { array_gfn: frame };
        let _ = hyper::event_channel_op(EVTCHNOP_EXPAND_ARRAY, &mut array);
    }
}

fn page(index: usize) -> Option<u64> {
    let known = PAGES[index].load(Ordering::Acquire);
    if known != 0 {
        return Some(known);
    }
    let page = allocate_page()?.expose_provenance() as u64;
    let frame = mfn_of(pfn_of(page))?;
    PAGES[index].store(frame, Ordering::Release);
    Some(frame)
}

/// Checks that a port can be allocated and used.
fn check() {
    close_all();
    let works = || {
        let one = events::alloc_unbound(DOMID_SELF).ok()?;
        let two = events::bind_interdomain(arena().own, one).ok()?;
        events::send(two).ok()?;
        events::close(one).ok()?;
        events::close(two).ok()
    };
    if works().is_none() {
        fail(format_args!("ports don't work any more"));
    }
}

fn close_all() {
    for place in &OPEN {
        let there = place.swap(0, Ordering::AcqRel);
        if there != 0 {
            let _ = events::close(there & 0xffff);
            let _ = events::close(there >> 16);
        }
    }
}
