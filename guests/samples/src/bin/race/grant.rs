//! A grant that is mapped, written, unmapped by any vCPU at any place, copied to and revoked, all at the same time. A
//! mapping must not outlive its handle, and a handle's rights must not outlive the grant.

use core::sync::atomic::{AtomicU32, Ordering};

use samples::Random;
use xenlike_rt::abi::Long;
use xenlike_rt::abi::grant_table::{
    GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTST_BAD_HANDLE,
    GNTST_OKAY, GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GnttabCopy, GnttabCopyPtr,
    GnttabMapGrantRef, GnttabUnmapGrantRef,
};
use xenlike_rt::paging::Access;
use xenlike_rt::{args, grants, hyper};

use crate::page::{Page, WATCHED, arena};
use crate::pair;
use crate::place::{self, Place};
use crate::round::{Actor, Operation, Scenario, fail};

/// Maximum number of handles at a time in any scenario, and so a bound for their numbers.
const HANDLES: u32 = 128;
/// Stands for no handle.
const NONE: u32 = u32::MAX;

/// Any uses of a grant that is repeatedly granted and revoked.
pub const MANY_USES: Scenario = Scenario {
    name: "grant-many-uses",
    least: 2,
    bouts: 1,
    setup: give,
    operations: &[
        &[revokes, switches_version, maps, unmaps_any],
        MAPPERS,
        MAPPERS,
        &[maps, unmaps_any, copies, crate::frame::writes_when_it_can],
    ],
    check: check_all,
};

/// The operations of a pair's mapping domain.
pub const MAPPERS: &[Operation] = &[maps, maps, unmaps_any, copies];

/// The granting domain as the mapper names it, and its reference.
static GRANTER: AtomicU32 = AtomicU32::new(NONE);
static REFERENCE: AtomicU32 = AtomicU32::new(0);
/// The last handle of each vCPU that maps, which others may unmap.
static LAST: [AtomicU32; 4] = [const { AtomicU32::new(NONE) }; 4];

/// Copies inside the granted frame that the hypervisor has made.
static COPIES: AtomicU32 = AtomicU32::new(0);

/// How many copies inside the granted frame the hypervisor has made.
pub fn copied() -> u32 {
    COPIES.load(Ordering::Relaxed)
}

fn frame() -> &'static Page {
    &arena().pages[0]
}

/// The domain whose grants are mapped: this domain, unless another was set.
fn granter() -> u16 {
    match GRANTER.load(Ordering::Relaxed) {
        NONE => arena().own,
        domain => domain as u16,
    }
}

/// Uses the grants of another domain from now on.
pub fn map_of(domain: u16) {
    GRANTER.store(u32::from(domain), Ordering::Relaxed);
}

fn reference() -> u32 {
    pair::reference().unwrap_or_else(|| REFERENCE.load(Ordering::Acquire))
}

/// Maps the grant at a place; returns the handle and the address for devices.
pub fn map(at: &Place, access: Access) -> Option<(u32, u64)> {
    let mut flags = GNTMAP_HOST_MAP;
    if access == Access::ReadOnly {
        flags |= GNTMAP_READONLY;
    }
    let mut request = [GnttabMapGrantRef {
        host_addr: at.address(),
        flags,
        ref_: reference(),
        dom: granter(),
        ..GnttabMapGrantRef::default()
    }];
    hyper::grant_table_op(GNTTABOP_MAP_GRANT_REF, &mut request).ok()?;
    let answer = core::hint::black_box(request[0]);
    (answer.status == GNTST_OKAY).then_some((answer.handle, answer.dev_bus_addr))
}

/// Unmaps a handle with the mapping at a place; returns whether that succeeded.
pub fn unmap(handle: u32, at: &Place) -> bool {
    unmap_status(handle, at) == Some(GNTST_OKAY)
}

fn unmap_status(handle: u32, at: &Place) -> Option<i16> {
    let mut request = [GnttabUnmapGrantRef {
        host_addr: at.address(),
        handle,
        ..GnttabUnmapGrantRef::default()
    }];
    let called = hyper::grant_table_op(GNTTABOP_UNMAP_GRANT_REF, &mut request);
    called.ok()?;
    Some(core::hint::black_box(request[0]).status)
}

/// Grants this domain access to its own frame.
pub fn give(_random: &mut Random) -> bool {
    if !frame().fill(&[]) {
        fail(format_args!("the frame can't be written between rounds"));
        return false;
    }
    let given = grants::give_frame(arena().own, frame().mfn as u32, Access::ReadWrite);
    match given {
        Ok(reference) => REFERENCE.store(reference, Ordering::Release),
        Err(error) => fail(format_args!("giving a grant: {error}")),
    }
    given.is_ok()
}

/// Whether a grant is mapped there. The M2P doesn't tell another domain's frames, so with another
/// granter any mapping counts.
fn mapped(at: &Place) -> bool {
    let is_ours = |mfn| GRANTER.load(Ordering::Relaxed) != NONE || mfn == frame().mfn;
    at.mapped().is_some_and(is_ours)
}

/// Unmaps all remaining handles. Then no place maps the frame any more, and the grant can be revoked.
pub fn check_ended() {
    let all = || arena().places.iter().flatten();
    for handle in 0..HANDLES {
        // Any mapping of the right kind will do for this handle.
        let _ = all().any(|at| mapped(at) && unmap(handle, at));
        let is_over = || unmap_status(handle, &arena().places[0][0]) == Some(GNTST_BAD_HANDLE);
        if GRANTER.load(Ordering::Relaxed) == NONE && !is_over() {
            fail(format_args!("handle {handle} has no mapping"));
        }
    }
    for at in all().filter(|at| mapped(at)) {
        let written = at.write(0, 0x5ec8_e700);
        fail(format_args!(
            "a mapping outlives its handles; a store there goes through: {written}"
        ));
        place::set_entry(at.entry(), 0);
    }
    if GRANTER.load(Ordering::Relaxed) != NONE {
        return;
    }
    for at in all() {
        place::set_entry(at.entry(), 0);
    }
    if let Err(error) = grants::take_back(REFERENCE.swap(0, Ordering::AcqRel)) {
        fail(format_args!("a grant without handles: {error}"));
    }
}

/// Like [`check_ended`]; also checks that the frames can be used for anything again.
pub fn check_all() {
    check_ended();
    frame().must_be_free("after its grants");
    arena().pages[1].must_be_free("after replacing grant mappings");
}

/// Maps the grant, stores through it, and unmaps it again, with a pause at each step.
fn maps(actor: &mut Actor) {
    let at = &arena().places[actor.slot as usize][0];
    let last = &LAST[actor.slot as usize];
    while actor.goes_on() {
        let access = match actor.random.below(4) {
            0 => Access::ReadOnly,
            _ => Access::ReadWrite,
        };
        let Some((handle, _)) = map(at, access) else {
            actor.pause();
            continue;
        };
        last.store(handle, Ordering::Relaxed);
        actor.pause();
        if access == Access::ReadWrite {
            at.write(
                actor.random.below(WATCHED as u64) as usize,
                actor.random.next() << 1,
            );
        }
        actor.pause();
        while !ends(handle, at) {
            actor.pause();
        }
        // Stores through a translation that should be gone.
        if actor.random.below(2) == 0 {
            at.write(
                actor.random.below(WATCHED as u64) as usize,
                actor.random.next() << 1,
            );
        }
    }
}

/// Tries to unmap a handle at a place; returns whether both the handle and the mapping are gone. Another vCPU
/// may have unmapped the handle with a third vCPU's mapping, which is then left for this one. Until then the
/// place must not be used for another mapping: the present one belongs to another handle, which could never
/// be unmapped without it.
fn ends(handle: u32, at: &Place) -> bool {
    if unmap_status(handle, at) == Some(GNTST_BAD_HANDLE) {
        return !mapped(at);
    }
    let others = arena().places.iter().map(|pair| &pair[0]);
    let _ = others.filter(|at| mapped(at)).any(|at| unmap(handle, at));
    false
}

/// Unmaps any handle at any place.
fn unmaps_any(actor: &mut Actor) {
    while actor.goes_on() {
        let at = &arena().places[actor.random.below(4) as usize][0];
        let handle = LAST[actor.random.below(4) as usize].load(Ordering::Relaxed);
        unmap(handle, at);
        actor.pause();
    }
}

/// Makes the hypervisor copy within the granted frame, by the grant itself or by one that passes it on.
fn copies(actor: &mut Actor) {
    while actor.goes_on() {
        copy_once();
        actor.pause();
    }
}

/// One such copy, which fails while the frame isn't granted.
pub fn copy_once() {
    let (domid, reference) = pair::passed_on().unwrap_or_else(|| (granter(), reference()));
    let side = |offset| GnttabCopyPtr {
        u: Long::from(reference),
        domid,
        offset,
        ..GnttabCopyPtr::default()
    };
    let mut request = [GnttabCopy {
        source: side(1024),
        dest: side(0),
        len: 64,
        flags: GNTCOPY_SOURCE_GREF | GNTCOPY_DEST_GREF,
        ..GnttabCopy::default()
    }];
    let called = grants::copy(&mut request);
    if called.is_ok() && core::hint::black_box(request[0]).status == GNTST_OKAY {
        COPIES.fetch_add(1, Ordering::Relaxed);
    }
}

/// Revokes the grant as soon as possible, checks that the frame doesn't change, and grants it again.
fn revokes(actor: &mut Actor) {
    while actor.goes_on() {
        let reference = REFERENCE.load(Ordering::Acquire);
        if grants::take_back(reference).is_err() {
            actor.pause();
            continue;
        }
        REFERENCE.store(0, Ordering::Release);
        must_stay(actor, "a frame whose grant has ended");
        give_again();
    }
}

/// Empties the grant table by a change of its version and back, which is refused while a grant is in use.
fn switches_version(actor: &mut Actor) {
    if args::number("grants", 1) == 2 {
        // Its status words stay mapped, so that no other version can be set.
        return revokes(actor);
    }
    while actor.goes_on() {
        if grants::set_version(2).is_err() {
            actor.pause();
            continue;
        }
        must_stay(actor, "a frame whose grant table has been emptied");
        if let Err(error) = grants::set_version(1) {
            return fail(format_args!("an empty table stays version 2: {error}"));
        }
        let reference = REFERENCE.swap(0, Ordering::AcqRel);
        if let Err(error) = grants::take_back(reference) {
            return fail(format_args!("an entry of an emptied table: {error}"));
        }
        give_again();
    }
}

/// Reports it if another vCPU can change the granted frame, as ordinary memory or as a page table.
fn must_stay(actor: &mut Actor, what: &str) {
    frame().watch(actor, what);
    if frame().pin(1) {
        frame().watch(actor, "a page table whose grant has ended");
        frame().unpin();
    }
}

fn give_again() {
    loop {
        let given = grants::give_frame(arena().own, frame().mfn as u32, Access::ReadWrite);
        if let Ok(reference) = given {
            return REFERENCE.store(reference, Ordering::Release);
        }
    }
}
