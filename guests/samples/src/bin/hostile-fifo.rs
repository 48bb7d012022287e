//! Attack: corrupt the words that FIFO event channels share with the hypervisor, from a second vCPU, while the first
//! one sends, unmasks, moves, closes and opens ports: links to invalid ports and in circles, forged heads, bits in
//! every state. Only this domain's events may suffer.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "writes pages that the hypervisor writes too")]

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use samples::{Attack, Random};
use xenlike_rt::abi::event_channel::{
    EVTCHNOP_EXPAND_ARRAY, EVTCHNOP_INIT_CONTROL, EVTCHNOP_SET_PRIORITY, EvtchnExpandArray,
    EvtchnInitControl, EvtchnSetPriority,
};
use xenlike_rt::abi::xen::DOMID_SELF;
use xenlike_rt::abi::{Errno, Long, errno};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::{args, events, from_long, hyper, paging, println, smp, start_info, time};

xenlike_rt::entry!(main);

/// Number of words in a page.
const WORDS: u64 = 1024;
/// Pairs of ports that exchange events.
const PAIRS: usize = 16;

/// Addresses of the pages: two control blocks, and the event words.
static PAGES: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static STOP: AtomicBool = AtomicBool::new(false);
static SCRIBBLED: AtomicU64 = AtomicU64::new(0);

fn page() -> u64 {
    allocate_page().expect("a page").expose_provenance() as u64
}

fn frame(page: u64) -> u64 {
    mfn_of(pfn_of(page)).expect("the domain's")
}

fn word(page: u64, n: u64) -> &'static AtomicU32 {
    let at = core::ptr::with_exposed_provenance_mut((page + n % WORDS * 4) as usize);
    // SAFETY: the page is never freed; the hypervisor, which shares it, also uses atomics.
    unsafe { AtomicU32::from_ptr(at) }
}

fn init_control(vcpu: u32, frame: u64, offset: u32) -> Result<u64, Errno> {
    let mut request = EvtchnInitControl {
        control_gfn: frame,
        offset,
        vcpu,
        ..EvtchnInitControl::default()
    };
    hyper::event_channel_op(EVTCHNOP_INIT_CONTROL, &mut request)
}

fn expand(frame: u64) -> Result<u64, Errno> {
    let mut request = EvtchnExpandArray { array_gfn: frame };
    hyper::event_channel_op(EVTCHNOP_EXPAND_ARRAY, &mut request)
}

fn scribble(random: &mut Random) {
    let pages = [0, 1, 2].map(|n: usize| PAGES[n].load(Ordering::Relaxed));
    let (value, at) = (random.next() as u32, random.next());
    // Mostly the words of the ports in use, and those of the control blocks.
    match random.below(8) {
        0 => word(pages[0], at % 18).store(value, Ordering::Relaxed),
        1 => word(pages[1], at % 18).store(value % 64, Ordering::Relaxed),
        2 => word(pages[2], at).store(value, Ordering::Relaxed),
        3 => {
            word(pages[2], at % 64).fetch_xor(1 << (value % 32), Ordering::Relaxed);
        }
        // LINKED, to a port in use or to itself.
        4 => word(pages[2], at % 64).store((1 << 29) | (value % 64), Ordering::Relaxed),
        5 => word(pages[2], at % 64).store(0, Ordering::Relaxed),
        _ => word(pages[2], at % 64).store(value, Ordering::Relaxed),
    }
}

fn scribbler(_vcpu: u32) {
    let mut random = Random::new(77);
    while !STOP.load(Ordering::Relaxed) {
        scribble(&mut random);
        SCRIBBLED.fetch_add(1, Ordering::Relaxed);
    }
}

fn refusals(attack: &mut Attack, page: u64) {
    attack.refused_with(
        "an array before a block",
        expand(frame(page)),
        &[errno::EOPNOTSUPP],
    );
    attack.refused("a block at an odd offset", init_control(0, frame(page), 4));
    attack.refused(
        "a block over the edge",
        init_control(0, frame(page), 4096 - 64),
    );
    attack.refused("a block of no vCPU", init_control(77, frame(page), 0));
    let table = frame(from_long(start_info().pt_base));
    for (name, frame) in [
        ("a page table", table),
        ("nobody's frame", 0),
        ("no frame", u64::MAX),
    ] {
        attack.refused(name, init_control(0, frame, 0));
    }
}

/// A random operation on a pair of ports. Its result doesn't matter.
fn step(random: &mut Random, own: u16, pair: &mut (u32, u32)) {
    let (here, there) = *pair;
    let port = if random.below(2) == 0 { here } else { there };
    match random.below(10) {
        0 => {
            let _ = events::close(here);
            let _ = events::close(there);
            let opened = events::alloc_unbound(DOMID_SELF);
            if let Ok(there) = opened
                && let Ok(here) = events::bind_interdomain(own, there)
            {
                *pair = (here, there);
            }
        }
        1 => {
            let priority = random.below(17) as u32;
            let mut request = EvtchnSetPriority { port, priority };
            let _ = hyper::event_channel_op(EVTCHNOP_SET_PRIORITY, &mut request);
        }
        2 => {
            let _ = events::bind_vcpu(port, random.below(2) as u32);
        }
        3 => events::unmask_port(port),
        _ => {
            let _ = events::send(port);
        }
    }
}

fn main() {
    let mut attack = Attack::new("hostile-fifo", "confuse FIFO event channels");
    let own = events::own_domain().expect("the own id");
    let pages = [page(), page(), page()];
    for (slot, page) in PAGES.iter().zip(pages) {
        slot.store(page, Ordering::Relaxed);
    }
    refusals(&mut attack, pages[2]);
    let mut pairs = [(0, 0); PAIRS];
    for pair in &mut pairs {
        let there = events::alloc_unbound(DOMID_SELF).expect("a port");
        *pair = (
            events::bind_interdomain(own, there).expect("its end"),
            there,
        );
    }
    for vcpu in 0..2 {
        let taken = init_control(vcpu, frame(pages[vcpu as usize]), 0);
        attack.any("a control block", taken);
    }
    attack.refused("a second block", init_control(0, frame(pages[1]), 0));
    attack.holds("event words", expand(frame(pages[2])).is_ok());
    attack.refused("the words made read-only under it", {
        // SAFETY: must be refused, since the hypervisor writes to the page.
        unsafe { pin(pages[2]) }
    });

    let rounds = args::number("rounds", 200_000);
    let alone = smp::start(1, scribbler).is_err();
    let mut random = Random::new(args::number("seed", 1));
    for _ in 0..rounds {
        if alone {
            scribble(&mut random);
        }
        let which = random.below(PAIRS as u64) as usize;
        step(&mut random, own, &mut pairs[which]);
    }
    STOP.store(true, Ordering::Relaxed);
    println!(
        "  {rounds} calls over {} scribbled words",
        SCRIBBLED.load(Ordering::Relaxed)
    );
    time::sleep(1_000_000);
    attack.finish();
}

/// Tries to make a page a page table.
///
/// # Safety
/// The page has no other user.
unsafe fn pin(page: u64) -> Result<u64, Errno> {
    use xenlike_rt::abi::xen::{MMUEXT_PIN_L1_TABLE, MmuextOp};
    let request = MmuextOp {
        cmd: MMUEXT_PIN_L1_TABLE,
        arg1: frame(page) as Long,
        ..MmuextOp::default()
    };
    // SAFETY: the caller's promise; the page is made writable again.
    let pinned =
        unsafe { paging::make_read_only(page).and_then(|()| hyper::mmuext_op(&[request])) };
    paging::make_writable(page).expect("writable again");
    pinned
}
