//! Chains of half-validated page tables, each naming the next. A link is a table of level 2, 3 or 4: its first
//! entry names a fresh lower table, its second names the next link read-only, and its last is invalid. One vCPU
//! pins a link; another replaces that request by a harmless one and sends an event, so that validation stops
//! between the first two entries and never continues. Removing such a chain must not overflow the hypervisor's
//! stack, however long it is.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use samples::Random;
use xenlike_rt::abi::xen::{DOMID_SELF, MMUEXT_TLB_FLUSH_LOCAL, MmuextOp};
use xenlike_rt::abi::{Long, hypercall};
use xenlike_rt::paging::{PRESENT, READ_ONLY_FLAGS, TABLE_FLAGS};
use xenlike_rt::sync::Lock;
use xenlike_rt::{args, events, hyper, println, time};

use crate::page::{PINS, Page, arena};
use crate::place::WRITABLE;
use crate::round::{self, Actor, Scenario, Settings};

/// Maximum number of links in a chain.
const MAX_LINKS: usize = 240;
/// How often pinning a link is tried.
const TRIES: u32 = 40;
/// An entry that is invalid in any table: its frame doesn't exist.
const IMPOSSIBLE: u64 = 0x000f_ffff_ffff_f000 | PRESENT;

/// Builds a chain and removes it.
pub const PARTIAL: Scenario = Scenario {
    name: "partial-chain",
    least: 2,
    bouts: 1,
    setup,
    operations: &[&[builds_and_ends], &[interrupts]],
    check,
};

struct Chain {
    links: Vec<Page>,
    below: Vec<Page>,
    /// Level of the link tables.
    level: usize,
    /// Number of links in use.
    length: usize,
}

static CHAIN: Lock<Chain> = Lock::new(Chain {
    links: Vec::new(),
    below: Vec::new(),
    level: 2,
    length: 0,
});

/// The request that one vCPU makes and the other changes.
struct Request(core::cell::UnsafeCell<MmuextOp>);
// SAFETY: accessed through the atomics below, or by the hypervisor.
unsafe impl Sync for Request {}
static REQUEST: Request = Request(core::cell::UnsafeCell::new(MmuextOp {
    cmd: 0,
    _gap0: [0; GAP],
    arg1: 0,
    arg2: 0,
}));
/// Bytes between the command and the first argument, which is a long.
const GAP: usize = size_of::<Long>() - 4;

/// Counts requests; odd while one may be in progress.
static ARMED: AtomicU32 = AtomicU32::new(0);
static OVER: AtomicBool = AtomicBool::new(false);
static PORT: AtomicU32 = AtomicU32::new(0);
static HALF_DONE: AtomicUsize = AtomicUsize::new(0);

fn command() -> &'static AtomicU32 {
    let command: *mut MmuextOp = REQUEST.0.get();
    // SAFETY: an aligned word of a static.
    unsafe { AtomicU32::from_ptr(&raw mut (*command).cmd) }
}

fn setup(random: &mut Random) -> bool {
    if PORT.load(Ordering::Relaxed) == 0 {
        let Ok(port) = events::bind_ipi(0) else {
            return false;
        };
        events::on(port, |_| ());
        events::open();
        PORT.store(port, Ordering::Relaxed);
    }
    let mut chain = CHAIN.lock();
    while chain.links.len() < MAX_LINKS {
        let (Some(link), Some(below)) = (Page::new(), Page::new()) else {
            break;
        };
        chain.links.push(link);
        chain.below.push(below);
    }
    chain.level = [2, 2, 3, 4][random.below(4) as usize];
    chain.length = match random.below(2) {
        0 => chain.links.len(),
        _ => random.below(chain.links.len() as u64) as usize,
    };
    OVER.store(false, Ordering::Relaxed);
    write(&chain)
}

/// Writes the entries of all links.
fn write(chain: &Chain) -> bool {
    let links = chain.links.iter().zip(&chain.below).take(chain.length);
    links.enumerate().all(|(n, (link, below))| {
        let next = chain.links.get(n + 1).filter(|_| n + 1 < chain.length);
        let next = next.map_or(0, |next| (next.mfn << 12) | READ_ONLY_FLAGS);
        let first = (below.mfn << 12) | TABLE_FLAGS;
        link.fill(&[(0, first), (1, next), (511, IMPOSSIBLE)])
    })
}

/// Pins a link, with a request that may have changed when the hypervisor reads it again.
fn pin_interrupted(link: &Page, level: usize) {
    let request = REQUEST.0.get();
    // SAFETY: the other vCPU only changes the command, and waits for `ARMED`.
    unsafe { (&raw mut (*request).arg1).write_volatile(link.mfn as Long) };
    command().store(PINS[level - 1], Ordering::Relaxed);
    ARMED.fetch_add(1, Ordering::Release);
    let pointer = request.expose_provenance() as u64;
    let arguments = [pointer, 1, 0, u64::from(DOMID_SELF), 0];
    // SAFETY: the frame belongs to the chain.
    unsafe { hyper::raw(hypercall::MMUEXT_OP, arguments) };
    ARMED.fetch_add(1, Ordering::Release);
}

/// Whether a frame is a table, validated completely or partly.
fn is_table(link: &Page, actor: &mut Actor) -> bool {
    let place = &arena().places[0][1];
    let writable = place.set((link.mfn << 12) | WRITABLE, &mut actor.random);
    place.clear(&mut actor.random);
    !writable
}

/// Makes as many links partial as possible.
fn build(actor: &mut Actor) {
    let chain = CHAIN.lock();
    let mut half_done = 0;
    // The lock masks upcalls, but the other vCPU's events must cause them.
    events::open();
    for link in chain.links.iter().take(chain.length) {
        for _ in 0..TRIES {
            pin_interrupted(link, chain.level);
            if is_table(link, actor) {
                half_done += 1;
                break;
            }
        }
    }
    HALF_DONE.store(half_done, Ordering::Relaxed);
}

/// Builds a chain, then pins its links again, from the first on or from a random one.
fn builds_and_ends(actor: &mut Actor) {
    build(actor);
    OVER.store(true, Ordering::Release);
    let chain = CHAIN.lock();
    let links = &chain.links[..chain.length];
    if links.is_empty() {
        return;
    }
    if actor.random.below(2) == 0 {
        let start = actor.random.below(links.len() as u64) as usize;
        links[start].pin(chain.level);
    }
    for link in links {
        if link.pin(chain.level) {
            round::fail(format_args!("a table with an impossible entry is pinned"));
        }
    }
}

/// Changes requests in progress and sends events.
fn interrupts(actor: &mut Actor) {
    let mut seen = ARMED.load(Ordering::Acquire);
    let mut most = 400;
    while !OVER.load(Ordering::Acquire) {
        let now = ARMED.load(Ordering::Acquire);
        if now == seen || now & 1 == 0 {
            core::hint::spin_loop();
            continue;
        }
        seen = now;
        round::spin(actor.random.below(most));
        command().store(MMUEXT_TLB_FLUSH_LOCAL, Ordering::Relaxed);
        let _ = events::send(PORT.load(Ordering::Relaxed));
        most = if most > 20_000 { 400 } else { most + most / 8 };
    }
}

/// All pages can be used again.
fn check() {
    let chain = CHAIN.lock();
    for page in chain.links.iter().take(chain.length) {
        page.must_be_free("after its chain ended");
    }
    for page in chain.below.iter().take(chain.length) {
        page.must_be_free("below a chain that ended");
    }
}

/// Builds the longest chain and leaves it behind, for the destruction of the domain.
pub fn leave(settings: &Settings) {
    static LEAVING: [Scenario; 1] = [Scenario {
        name: "leave-chain",
        least: 2,
        bouts: 1,
        setup: |random| {
            let ready = setup(random);
            let mut chain = CHAIN.lock();
            chain.length = chain.links.len();
            chain.level = args::number("level", 2) as usize;
            ready && write(&chain)
        },
        operations: &[
            &[|actor| {
                build(actor);
                OVER.store(true, Ordering::Release);
            }],
            &[interrupts],
        ],
        check: || (),
    }];
    let once = Settings {
        rounds: 1,
        ..*settings
    };
    match round::run(&LEAVING, &once) {
        Ok(_) => println!(
            "left behind: {} tables half validated",
            HALF_DONE.load(Ordering::Relaxed)
        ),
        Err(why) => println!("FAIL race: {why}"),
    }
    loop {
        time::sleep(time::SECOND_NS);
    }
}
