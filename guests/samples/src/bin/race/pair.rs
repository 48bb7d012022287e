//! Two domains. The granter grants a frame, revokes the grant as soon as possible, and checks that the frame then
//! doesn't change, as ordinary memory and as a page table. The mapper maps it on several vCPUs, stores, and
//! unmaps its handles crosswise.
//!
//! The granter's first reference, 8, grants a page that contains the present reference and the end flag. Create the
//! granter first; each domain takes the next id for the other's, unless `peer=ID` is given.
//!
//! Three domains, all with `three=1`. The granter grants the frame to the passer, which passes it on by a transitive
//! grant, and the mapper copies through that. Create them in the order granter, passer, mapper. The passer has the
//! shared page by reference 9. Its own first reference, 8, is the transitive grant.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use xenlike_rt::grants::{self, Mapping};
use xenlike_rt::memory::allocate_page;
use xenlike_rt::paging::Access;
use xenlike_rt::{args, events, hyper, println, time};

use crate::grant;
use crate::page::{Page, arena, prepare};
use crate::round::{self, Actor, Scenario, Settings};

const FIRST_REFERENCE: u32 = 8;
const PASSERS_REFERENCE: u32 = 9;
const PATIENCE_NS: u64 = 60 * time::SECOND_NS;
const READY: u32 = 0x7261_6365;

/// Indices of words in the shared page.
const STATE: usize = 0;
const REFERENCE: usize = 1;
const OVER: usize = 2;

/// Address at which the mapper has mapped the shared page.
static SHARED: AtomicUsize = AtomicUsize::new(0);

static MAPPING: [Scenario; 1] = [Scenario {
    name: "pair",
    least: 2,
    bouts: 1,
    setup: |_| true,
    operations: &[grant::MAPPERS; 4],
    check: grant::check_ended,
}];

fn word(page: usize, index: usize) -> &'static AtomicU32 {
    let at = core::ptr::with_exposed_provenance_mut::<u32>(page).wrapping_add(index);
    // SAFETY: the page stays mapped, and both sides only use atomics.
    unsafe { AtomicU32::from_ptr(at) }
}

/// The reference that the granter offers now.
pub fn reference() -> Option<u32> {
    match SHARED.load(Ordering::Relaxed) {
        0 => None,
        page => Some(word(page, REFERENCE).load(Ordering::Acquire)),
    }
}

/// How many domains the mapper is behind the granter.
fn distance() -> u16 {
    if is_passed_on() { 2 } else { 1 }
}

/// Whether a third domain passes on what the granter grants.
fn is_passed_on() -> bool {
    args::number("three", 0) != 0
}

fn peer(default: u16) -> u16 {
    args::number("peer", u64::from(default)) as u16
}

/// The passer, as the mapper names it, and its transitive grant, if there is one.
pub fn passed_on() -> Option<(u16, u32)> {
    is_passed_on().then(|| (arena().own.wrapping_sub(1), FIRST_REFERENCE))
}

/// Maps the granter's page, and waits until the granter begins.
fn meet(granter: u16, reference: u32) -> Result<Mapping, &'static str> {
    let end = time::now_ns() + PATIENCE_NS;
    let shared = loop {
        match Mapping::new(granter, reference, Access::ReadWrite) {
            Ok(mapping) => break mapping,
            Err(_) if time::now_ns() < end => hyper::yield_now(),
            Err(_) => return Err("the other domain grants nothing"),
        }
    };
    let page = shared.as_ptr().expose_provenance();
    if !time::wait_for(PATIENCE_NS, || {
        word(page, STATE).load(Ordering::Acquire) == READY
    }) {
        return Err("the other domain doesn't begin");
    }
    Ok(shared)
}

/// Maps what the other domain grants until the time is over.
pub fn mapper(settings: &Settings) -> Result<u64, &'static str> {
    let own = events::own_domain().map_err(|_| "no id")?;
    let granter = peer(own.wrapping_sub(distance()));
    let shared = meet(granter, FIRST_REFERENCE)?;
    let page = shared.as_ptr().expose_provenance();
    SHARED.store(page, Ordering::Relaxed);
    grant::map_of(granter);
    let done = round::run(&MAPPING, settings);
    // On a busy host, the moments at which both grants are valid may have been missed so far. They do come.
    let end = time::now_ns() + PATIENCE_NS;
    while grant::copied() == 0 && time::now_ns() < end {
        grant::copy_once();
    }
    word(page, OVER).store(1, Ordering::Release);
    println!("race: {} copies", grant::copied());
    if is_passed_on() && grant::copied() == 0 {
        return Err("nothing was copied by the transitive grant");
    }
    done
}

/// Passes on the granter's grants until the mapper is done.
pub fn passer() {
    match pass_all() {
        Ok(rounds) => println!("PASS race passer rounds={rounds}"),
        Err(why) => println!("FAIL race passer: {why}"),
    }
}

fn pass_all() -> Result<u64, &'static str> {
    let own = events::own_domain().map_err(|_| "no id")?;
    let (granter, mapper) = (own.wrapping_sub(1), own + 1);
    let shared = meet(granter, PASSERS_REFERENCE)?;
    let page = shared.as_ptr().expose_provenance();
    let over = || word(page, OVER).load(Ordering::Acquire) != 0;
    let mut actor = Actor::alone(args::number("seed", 1), 16384);
    let mut rounds = 0;
    while !over() {
        let reference = word(page, REFERENCE).load(Ordering::Acquire);
        if grants::pass_on(mapper, granter, reference) != Ok(FIRST_REFERENCE) {
            return Err("the transitive grant isn't its first");
        }
        actor.pause();
        while !over() && grants::take_back(FIRST_REFERENCE).is_err() {
            core::hint::spin_loop();
        }
        rounds += 1;
    }
    Ok(rounds)
}

/// Grants and revokes until the other domain is done.
pub fn granter() {
    match grant_all() {
        Ok(rounds) if round::failures() == 0 => println!("PASS race granter rounds={rounds}"),
        Ok(_) => println!("FAIL race granter: {} violations", round::failures()),
        Err(why) => println!("FAIL race granter: {why}"),
    }
}

fn grant_all() -> Result<u64, &'static str> {
    prepare()?;
    let own = events::own_domain().map_err(|_| "no id")?;
    let mapper = peer(own + distance());
    let shared = allocate_page().ok_or("no page")?;
    let page = shared.expose_provenance();
    let first = grants::give(mapper, shared, Access::ReadWrite);
    if first != Ok(FIRST_REFERENCE) {
        return Err("the first reference is another");
    }
    let mut to = mapper;
    if is_passed_on() {
        to = own + 1;
        if grants::give(to, shared, Access::ReadWrite) != Ok(PASSERS_REFERENCE) {
            return Err("the passer's reference is another");
        }
    }
    let mut actor = Actor::alone(args::number("seed", 1), 2048);
    let frame = Page::new().ok_or("no page")?;
    word(page, STATE).store(READY, Ordering::Release);
    let mut rounds = 0;
    while word(page, OVER).load(Ordering::Acquire) == 0 {
        let given = grants::give_frame(to, frame.mfn as u32, Access::ReadWrite);
        let reference = given.map_err(|_| "no reference")?;
        word(page, REFERENCE).store(reference, Ordering::Release);
        actor.pause();
        while grants::take_back(reference).is_err() {
            if word(page, OVER).load(Ordering::Acquire) != 0 {
                return Ok(rounds);
            }
            core::hint::spin_loop();
        }
        look(&frame, &mut actor);
        rounds += 1;
    }
    Ok(rounds)
}

/// Checks that only this domain can change the frame now.
fn look(frame: &Page, actor: &mut Actor) {
    frame.watch(actor, "a frame whose grant has ended");
    if frame.pin(1) {
        frame.watch(actor, "a page table whose grant has ended");
        frame.unpin();
    } else if !frame.fill(&[]) || !frame.pin(1) {
        round::fail(format_args!(
            "a frame whose grant has ended can't be a page table"
        ));
    } else {
        frame.unpin();
    }
}
