//! A frame that is returned to the hypervisor, exchanged, or transferred by a grant, while other vCPUs map it, pin it
//! and store through old translations. A frame from the hypervisor contains zeros or data that this domain stored
//! earlier, never another domain's data; and once all vCPUs have flushed, its contents don't change.

use core::sync::atomic::{AtomicU64, Ordering};

use samples::Random;
use xenlike_rt::abi::grant_table::{GNTST_OKAY, GNTTABOP_TRANSFER, GnttabTransfer};
use xenlike_rt::abi::memory::{
    MemoryExchange, MemoryReservation, XENMEM_DECREASE_RESERVATION, XENMEM_EXCHANGE,
    XENMEM_POPULATE_PHYSMAP,
};
use xenlike_rt::abi::xen::{DOMID_SELF, MMUEXT_TLB_FLUSH_ALL, MMUEXT_UNPIN_TABLE, UVMF_INVLPG};
use xenlike_rt::abi::{GuestHandle, Long};
use xenlike_rt::{from_long, grants, hyper, memory, start_info};

use crate::page::{PINS, WATCHED, arena};
use crate::place::{self, Place, READ_ONLY, WRITABLE};
use crate::round::{Actor, MAX_ACTORS, Scenario, fail};

/// The scenario of this module.
pub const GIVEN_BACK: Scenario = Scenario {
    name: "given-back",
    least: 2,
    bouts: 1,
    setup,
    operations: &[
        &[gives_back],
        &[maps_and_unmaps],
        &[maps_and_unmaps, stores_when_it_can, pins],
        &[maps_and_unmaps, stores_when_it_can, pins],
    ],
    check,
};

/// The frame that all actors may map; 0: none.
static CURRENT: AtomicU64 = AtomicU64::new(0);
/// Counts the times at which no frame was available, and for each actor the last such time that it saw
/// while using no frame.
static EPOCH: AtomicU64 = AtomicU64::new(0);
static SEEN: [AtomicU64; MAX_ACTORS as usize] = [const { AtomicU64::new(u64::MAX) }; 4];

fn setup(_random: &mut Random) -> bool {
    if CURRENT.load(Ordering::Relaxed) != 0 {
        return true;
    }
    let Some(page) = memory::allocate_page() else {
        return false;
    };
    // SAFETY: a page of this guest without other users.
    unsafe { page.write_bytes(0, 4096) };
    let view = page.expose_provenance() as u64;
    let Some(mfn) = memory::mfn_of(memory::pfn_of(view)) else {
        return false;
    };
    // SAFETY: the page is not used by its address.
    let unmapped = unsafe { hyper::update_va_mapping(view, 0, UVMF_INVLPG) };
    CURRENT.store(mfn, Ordering::Relaxed);
    unmapped.is_ok()
}

fn check() {
    for place in arena().places.iter().flatten() {
        place::set_entry(place.entry(), 0);
    }
    // Other scenarios store through these places, and their words would end up in the frame.
    place::extended(MMUEXT_TLB_FLUSH_ALL, 0);
}

fn list(frame: &mut Long) -> MemoryReservation {
    MemoryReservation {
        extent_start: GuestHandle::of_mut(frame),
        nr_extents: 1,
        domid: DOMID_SELF,
        ..MemoryReservation::default()
    }
}

/// Returns a frame to the hypervisor; returns whether that succeeded.
pub fn decrease(frame: u64) -> bool {
    let mut frame = frame as Long;
    hyper::memory_op(XENMEM_DECREASE_RESERVATION, &mut list(&mut frame)) == Ok(1)
}

/// An unused pseudo-physical number for new frames.
fn number() -> Long {
    start_info().nr_pages + 0x1000
}

/// Allocates a frame.
pub fn populate() -> Option<u64> {
    let mut frame = number();
    let given = hyper::memory_op(XENMEM_POPULATE_PHYSMAP, &mut list(&mut frame));
    (given == Ok(1)).then(|| from_long(core::hint::black_box(frame)))
}

fn exchange(old: u64) -> Option<u64> {
    let mut old = old as Long;
    let mut new = number();
    let mut request = MemoryExchange {
        in_: list(&mut old),
        out: list(&mut new),
        nr_exchanged: 0,
    };
    let done = hyper::memory_op(XENMEM_EXCHANGE, &mut request);
    (done.is_ok() && request.nr_exchanged == 1).then(|| from_long(core::hint::black_box(new)))
}

/// Transfers a frame from this domain to itself.
fn transfer(frame: u64) -> Option<u64> {
    let own = arena().own;
    let reference = grants::accept_frame(own, number() as u32).ok()?;
    let mut request = [GnttabTransfer {
        mfn: frame as Long,
        domid: own,
        ref_: reference,
        ..GnttabTransfer::default()
    }];
    let called = hyper::grant_table_op(GNTTABOP_TRANSFER, &mut request);
    if let Err(error) = grants::take_back(reference) {
        fail(format_args!("an offer to take a frame: {error}"));
    }
    let status = core::hint::black_box(request[0]).status;
    (called.is_ok() && status == GNTST_OKAY).then_some(frame)
}

/// Waits until no other actor can still map the previous frame.
fn settle(slot: u32) {
    // An actor that has seen this epoch with nothing in use took `CURRENT` as 0 since, so it can't hold the
    // previous frame.
    let epoch = EPOCH.fetch_add(1, Ordering::AcqRel) + 1;
    for (n, seen) in SEEN.iter().enumerate() {
        while n != slot as usize && seen.load(Ordering::Acquire) < epoch {
            core::hint::spin_loop();
        }
    }
}

/// Returns the frame and allocates another.
fn gives_back(actor: &mut Actor) {
    let place = &arena().places[actor.slot as usize][1];
    while actor.goes_on() {
        let old = CURRENT.load(Ordering::Relaxed);
        if actor.random.below(2) == 0 {
            CURRENT.store(0, Ordering::Release);
        }
        let way = actor.random.below(4);
        let new = match way {
            0 => exchange(old),
            1 => transfer(old),
            _ if decrease(old) => {
                CURRENT.store(0, Ordering::Release);
                settle(actor.slot);
                populate()
            }
            _ => None,
        };
        let Some(new) = new else {
            // Refused because an actor had it pinned, or for lack of memory.
            CURRENT.store(old, Ordering::Release);
            actor.pause();
            continue;
        };
        CURRENT.store(0, Ordering::Release);
        settle(actor.slot);
        if !place.set((new << 12) | READ_ONLY, &mut actor.random) {
            fail(format_args!(
                "a fresh frame can't be mapped: way {way}, {old:#x}, {new:#x}"
            ));
        }
        place::extended(MMUEXT_TLB_FLUSH_ALL, 0);
        look(place, actor);
        place.clear(&mut actor.random);
        place::flush();
        CURRENT.store(new, Ordering::Release);
        actor.pause();
    }
}

/// The word that this domain stores.
fn mark() -> u64 {
    0x7261_6365_0000_0000 | u64::from(arena().own)
}

/// Checks that a new frame contains no other domain's data, and that it doesn't change.
fn look(place: &Place, actor: &mut Actor) {
    let words = || core::array::from_fn::<_, WATCHED, _>(|index| place.read(index));
    let first = words();
    if let Some(word) = first
        .iter()
        .find(|word| **word != Some(0) && **word != Some(mark()))
    {
        return fail(format_args!("a fresh frame has {word:x?}"));
    }
    for _ in 0..actor.random.below(60) {
        actor.pause();
        let now = words();
        if now != first {
            return fail(format_args!(
                "a fresh frame changed from {first:x?} to {now:x?}"
            ));
        }
    }
}

/// Records at the top of a loop that the actor uses no frame.
fn empty_handed(actor: &Actor) {
    let epoch = EPOCH.load(Ordering::Acquire);
    SEEN[actor.slot as usize].store(epoch, Ordering::Release);
}

fn leave(actor: &Actor) {
    SEEN[actor.slot as usize].store(u64::MAX, Ordering::Release);
}

/// Maps the frame, stores, unmaps it without a flush, and stores again.
fn maps_and_unmaps(actor: &mut Actor) {
    let place = &arena().places[actor.slot as usize][0];
    while actor.goes_on() {
        empty_handed(actor);
        let current = CURRENT.load(Ordering::Acquire);
        if current == 0 {
            continue;
        }
        if place.set((current << 12) | WRITABLE, &mut actor.random) {
            actor.pause();
            place.write(actor.random.below(WATCHED as u64) as usize, mark());
            place.clear(&mut actor.random);
            actor.pause();
            place.write(actor.random.below(WATCHED as u64) as usize, mark());
        }
    }
    leave(actor);
}

/// Stores through other actors' places.
fn stores_when_it_can(actor: &mut Actor) {
    while actor.goes_on() {
        if actor.random.below(4) != 0 {
            place::flush();
        }
        let victim = &arena().places[actor.random.below(4).max(1) as usize][0];
        for _ in 0..=actor.random.below(40) {
            victim.write(actor.random.below(WATCHED as u64) as usize, mark());
        }
    }
}

/// Pins and unpins the frame as a table.
fn pins(actor: &mut Actor) {
    while actor.goes_on() {
        empty_handed(actor);
        let current = CURRENT.load(Ordering::Acquire);
        if current != 0 && place::extended(PINS[0], current) {
            actor.pause();
            place::extended(MMUEXT_UNPIN_TABLE, current);
        }
    }
    leave(actor);
}
