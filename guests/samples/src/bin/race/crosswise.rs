//! One grant, mapped many times, in pairs. Each vCPU has one handle of each pair, and unmaps it at one of the pair's
//! two places, at the same time as the other vCPU. Each mapping can be removed through one handle only.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use samples::Random;
use xenlike_rt::abi::grant_table::{
    GNTST_OKAY, GNTTABOP_UNMAP_AND_REPLACE, GNTTABOP_UNMAP_GRANT_REF, GnttabUnmapAndReplace,
    GnttabUnmapGrantRef,
};
use xenlike_rt::hyper;
use xenlike_rt::paging::Access;
use xenlike_rt::sync::Lock;

use crate::grant::{self, give};
use crate::page::arena;
use crate::place::{self, Place, READ_ONLY, WRITABLE};
use crate::round::{Actor, Scenario, fail};

/// The scenario of this module.
pub const CROSSWISE: Scenario = Scenario {
    name: "grant-crosswise",
    least: 2,
    bouts: 8,
    setup,
    operations: &[
        &[unmaps_all, unmaps_all, replaces_some],
        &[unmaps_all, unmaps_all, replaces_some],
        &[overwrites_some],
    ],
    check,
};

const PAIRS: usize = 32;
/// Stands for no handle.
const NONE: u32 = u32::MAX;

/// The places at which the pairs are mapped.
static PLACES: Lock<&'static [[Place; 2]]> = Lock::new(&[]);
/// The remaining handles.
static HANDLES: [[AtomicU32; 2]; PAIRS] = [const { [const { AtomicU32::new(NONE) }; 2] }; PAIRS];
/// Whether an actor has overwritten grant mappings with other entries.
static OVERWRITTEN: AtomicBool = AtomicBool::new(false);

fn places() -> &'static [[Place; 2]] {
    *PLACES.lock()
}

fn frame() -> u64 {
    arena().pages[0].mfn
}

fn setup(random: &mut Random) -> bool {
    OVERWRITTEN.store(false, Ordering::Relaxed);
    if places().is_empty() {
        let pair = || Some([Place::new()?, Place::new()?]);
        let made: Vec<_> = (0..PAIRS).map_while(|_| pair()).collect();
        *PLACES.lock() = made.leak();
    }
    if !give(random) {
        return false;
    }
    for (handle, at) in HANDLES.iter().flatten().zip(places().iter().flatten()) {
        let mapped = grant::map(at, Access::ReadWrite);
        handle.store(mapped.map_or(NONE, |(handle, _)| handle), Ordering::Relaxed);
    }
    true
}

/// Unmaps its handle of each pair, all in one call.
fn unmaps_all(actor: &mut Actor) {
    let mine = actor.slot as usize;
    let handle = |pair: usize| &HANDLES[pair][mine];
    let mut requests = [GnttabUnmapGrantRef::default(); PAIRS];
    for (pair, (request, places)) in requests.iter_mut().zip(places()).enumerate() {
        request.handle = handle(pair).load(Ordering::Relaxed);
        request.host_addr = places[actor.random.below(2) as usize].address();
    }
    actor.pause();
    let _ = hyper::grant_table_op(GNTTABOP_UNMAP_GRANT_REF, &mut requests);
    for (pair, request) in core::hint::black_box(&requests).iter().enumerate() {
        if request.status == GNTST_OKAY {
            handle(pair).store(NONE, Ordering::Relaxed);
        }
    }
}

/// Unmaps its handle of some pairs, replacing the mapping with another entry.
fn replaces_some(actor: &mut Actor) {
    let spare = &arena().places[actor.slot as usize][1];
    for (pair, places) in places().iter().enumerate().step_by(4) {
        let handle = &HANDLES[pair][actor.slot as usize];
        spare.set((arena().pages[1].mfn << 12) | READ_ONLY, &mut actor.random);
        let mut request = [GnttabUnmapAndReplace {
            host_addr: places[actor.random.below(2) as usize].address(),
            new_addr: spare.address(),
            handle: handle.load(Ordering::Relaxed),
            ..GnttabUnmapAndReplace::default()
        }];
        let called = hyper::grant_table_op(GNTTABOP_UNMAP_AND_REPLACE, &mut request);
        if called.is_ok() && core::hint::black_box(request[0]).status == GNTST_OKAY {
            handle.store(NONE, Ordering::Relaxed);
        }
    }
    spare.clear(&mut actor.random);
}

/// Overwrites the entries of grant mappings.
fn overwrites_some(actor: &mut Actor) {
    OVERWRITTEN.store(true, Ordering::Relaxed);
    for places in places() {
        let entry = match actor.random.below(2) {
            0 => 0,
            _ => (arena().pages[1].mfn << 12) | READ_ONLY,
        };
        places[actor.random.below(2) as usize].set(entry, &mut actor.random);
    }
}

fn is_mapped(at: &&Place) -> bool {
    at.mapped() == Some(frame())
}

/// Checks that there are as many mappings as handles, and that no mapping remains when all handles are gone.
fn check() {
    let overwritten = OVERWRITTEN.load(Ordering::Relaxed);
    for (handles, places) in HANDLES.iter().zip(places()) {
        let left = |handle: &&AtomicU32| handle.load(Ordering::Relaxed) != NONE;
        let live = handles.iter().filter(left).count();
        let mapped = places.iter().filter(is_mapped).count();
        if mapped > live || (mapped != live && !overwritten) {
            fail(format_args!(
                "{live} handles are left of a grant and {mapped} mappings"
            ));
        }
        end(handles, places);
    }
    grant::check_all();
}

/// Unmaps the handles of a pair.
fn end(handles: &[AtomicU32; 2], places: &[Place; 2]) {
    for handle in handles {
        let handle = handle.swap(NONE, Ordering::Relaxed);
        if handle == NONE || places.iter().any(|at| grant::unmap(handle, at)) {
            continue;
        }
        // Its mapping was overwritten; a similar entry replaces it.
        place::set_entry(places[0].entry(), (frame() << 12) | WRITABLE);
        if !grant::unmap(handle, &places[0]) {
            fail(format_args!("a handle can't be ended"));
        }
    }
    for at in places {
        if is_mapped(&at) {
            let written = at.write(0, 0x5ec8_e700);
            fail(format_args!(
                "a mapping outlives its handles; a store there goes through: {written}"
            ));
        }
        place::set_entry(at.entry(), 0);
    }
}
