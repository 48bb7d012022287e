//! Attack: return frames that are in use, so that they are allocated again while this guest can still access them.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;

use samples::Attack;
use xenlike_rt::abi::memory::{
    MemoryExchange, MemoryReservation, XENMEM_DECREASE_RESERVATION, XENMEM_EXCHANGE,
    XENMEM_INCREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP,
};
use xenlike_rt::abi::xen::DOMID_SELF;
use xenlike_rt::abi::{GuestHandle, Long};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::{from_long, hyper, start_info, time};

xenlike_rt::entry!(main);

fn reservation(frames: &mut [Long], order: u32, domain: u16) -> MemoryReservation {
    MemoryReservation {
        extent_start: GuestHandle::of_mut(frames),
        nr_extents: frames.len() as Long,
        extent_order: order,
        domid: domain,
        ..MemoryReservation::default()
    }
}

/// Number of extents that were returned.
fn give_back(frames: &mut [Long], order: u32) -> u64 {
    let mut argument = reservation(frames, order, DOMID_SELF);
    hyper::memory_op(XENMEM_DECREASE_RESERVATION, &mut argument).unwrap_or(0)
}

fn main() {
    let mut attack = Attack::new("hostile-free", "give back frames that are in use");

    // A page that stays mapped here. After it is returned, it must not be allocated to another domain.
    let page = allocate_page().expect("a page");
    let page_number = pfn_of(page.expose_provenance() as u64);
    let mapped = mfn_of(page_number).expect("the domain's") as Long;
    let given = give_back(&mut [mapped], 0);
    attack.any::<_, ()>("a mapped frame given back: extents", Ok(given));
    let again = give_back(&mut [mapped], 0);
    attack.any::<_, ()>("a second time", Ok(again));
    let mut taken = Vec::new();
    for _ in 0..64 {
        let mut frames = [page_number as Long];
        let mut argument = reservation(&mut frames, 0, DOMID_SELF);
        let populated = hyper::memory_op(XENMEM_POPULATE_PHYSMAP, &mut argument);
        let frame = core::hint::black_box(&frames)[0];
        match populated {
            Ok(1) => taken.push(frame),
            _ => break,
        }
        let _ = give_back(&mut [frame], 0);
    }
    attack.holds(
        "not handed out while it is mapped",
        !taken.contains(&mapped),
    );

    // Tables in use, the shared info page, foreign frames, frames that don't exist.
    let root = mfn_of(pfn_of(from_long(start_info().pt_base))).expect("the domain's") as Long;
    attack.any::<_, ()>("the running root: extents", Ok(give_back(&mut [root], 0)));
    let shared = start_info().shared_info >> 12;
    attack.any::<_, ()>(
        "the shared info page: extents",
        Ok(give_back(&mut [shared], 0)),
    );
    let before = time::now_ns();
    time::sleep(1_000_000);
    attack.holds("which is still there", time::now_ns() > before);
    for frame in [0x100, 1 << 39, 1 << 52, u64::MAX].map(|frame: u64| frame as Long) {
        attack.holds(
            "not a frame that isn't ours",
            give_back(&mut [frame], 0) == 0,
        );
    }
    for order in [9, 18, 20, 52, 63, 64, u32::MAX] {
        attack.holds("not a huge extent", give_back(&mut [0], order) == 0);
    }

    // More frames than the domain may have, for other domains, of absurd sizes.
    let mut frames = [0; 4];
    for order in [30, 52, 63, u32::MAX] {
        let mut argument = reservation(&mut frames, order, DOMID_SELF);
        let outcome = hyper::memory_op(XENMEM_INCREASE_RESERVATION, &mut argument);
        attack.holds("no huge extent", !matches!(outcome, Ok(1..)));
    }
    for domain in [0, 0x7fe0, 0x7ff1, 0x7ff2] {
        let mut argument = reservation(&mut frames, 0, domain);
        let outcome = hyper::memory_op(XENMEM_INCREASE_RESERVATION, &mut argument);
        attack.holds("nothing for another domain", !matches!(outcome, Ok(1..)));
    }
    let (mut first, mut second) = ([root, root], [0, 0]);
    let mut exchange = MemoryExchange {
        in_: reservation(&mut first, 0, DOMID_SELF),
        out: reservation(&mut second, 0, DOMID_SELF),
        ..MemoryExchange::default()
    };
    let outcome = hyper::memory_op(XENMEM_EXCHANGE, &mut exchange);
    attack.refused("a table in use exchanged, twice at once", outcome);
    attack.finish();
}
