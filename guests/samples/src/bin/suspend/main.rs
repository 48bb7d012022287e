//! Claim: a domain that suspends when the Xenstore tells it to goes on in the domain that is restored from it, or in
//! place: its memory and its vCPUs' tables and registers are as they were, its frame lists agree, new pages can be mapped,
//! and its process, clock, timer, interrupts between vCPUs and the Xenstore work. It checks this at each start and after each suspension, until it is told to power off.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "suspends the domain")]

extern crate alloc;

mod process;
mod registers;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use xenlike_rt::abi::xen::{DOMID_SELF, VIRQ_TIMER};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of, pfn_of_mfn};
use xenlike_rt::paging::{Access, FRAME_MASK, Window, entry_of};
use xenlike_rt::suspend::{self, Resumed};
use xenlike_rt::xenstore::{Fault, Store};
use xenlike_rt::{events, from_long, hyper, println, smp, start_info, time};

use process::Process;

xenlike_rt::entry!(main);

/// The node in which a toolstack writes a request. The kernel empties it when it accepts the request.
const WISH: &str = "control/shutdown";
const PATIENCE_NS: u64 = 30 * time::SECOND_NS;
const TIMER_NS: u64 = 20_000_000;
/// Words of the memory that is checked: 2 MiB.
const WORDS: u64 = 256 * 1024;

static ROUND: AtomicU32 = AtomicU32::new(0);
/// The port by which vCPU 0 signals each vCPU; 0 while the vCPU has none.
static PORTS: [AtomicU32; 32] = [const { AtomicU32::new(0) }; 32];
/// How often each vCPU has been signalled in this round.
static SIGNALS: [AtomicU32; 32] = [const { AtomicU32::new(0) }; 32];
/// The vCPUs that keep still, as bits.
static STILL: AtomicU32 = AtomicU32::new(0);
static TICKS: AtomicU64 = AtomicU64::new(0);

fn tick(_port: events::Port) {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

fn signalled(_port: events::Port) {
    SIGNALS[xenlike_rt::cpu::number() as usize].fetch_add(1, Ordering::Release);
}

/// Sleeps until this vCPU has been signalled this often.
fn sleep_for(number: u32, signals: u32) {
    loop {
        events::close_upcalls();
        if SIGNALS[number as usize].load(Ordering::Acquire) >= signals {
            return;
        }
        hyper::block();
    }
}

/// A further vCPU, until something is wrong with it: it answers no signal then.
fn secondary(number: u32) {
    if let Err(why) = registers::set(number).and_then(|()| take_part(number)) {
        println!("vCPU {number}: {why}");
    }
}

/// In each round, its first signal is answered, and after the second it keeps still until the next.
fn take_part(number: u32) -> Result<(), &'static str> {
    loop {
        registers::are_kept(number)?;
        let round = ROUND.load(Ordering::Acquire);
        let port = events::bind_ipi(number).expect("an IPI port");
        events::on(port, signalled);
        PORTS[number as usize].store(port, Ordering::Release);
        sleep_for(number, 2);
        events::close(port).expect("the IPI port");
        PORTS[number as usize].store(0, Ordering::Relaxed);
        SIGNALS[number as usize].store(0, Ordering::Relaxed);
        STILL.fetch_or(1 << number, Ordering::Release);
        while ROUND.load(Ordering::Acquire) == round {
            hyper::yield_now();
        }
        STILL.fetch_and(!(1 << number), Ordering::Release);
    }
}

/// Signals every other vCPU once more, and waits until `done`.
fn signal_others(vcpus: u32, done: impl Fn(u32) -> bool) -> Result<(), &'static str> {
    for number in 1..vcpus {
        let port = &PORTS[number as usize];
        if !time::wait_for(PATIENCE_NS, || port.load(Ordering::Acquire) != 0) {
            return Err("a vCPU has no port");
        }
        events::send(port.load(Ordering::Acquire)).map_err(|_| "a signal is refused")?;
        if !time::wait_for(PATIENCE_NS, || done(number)) {
            return Err("a vCPU takes no signal");
        }
    }
    Ok(())
}

/// The word at `index` of the checked memory in `round`.
fn word(index: u64, round: u32) -> u64 {
    (index ^ (u64::from(round) << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn fill(memory: &mut [u64], round: u32) {
    for (index, at) in (0..).zip(memory) {
        *at = word(index, round);
    }
}

fn memory_is_kept(memory: &[u64], round: u32) -> Result<(), &'static str> {
    if (0..)
        .zip(memory)
        .any(|(index, at)| *at != word(index, round))
    {
        return Err("memory has changed");
    }
    let page = memory.as_ptr().addr() as u64;
    let frame = entry_of(page).map(|entry| (entry & FRAME_MASK) >> 12);
    if frame.is_none() || frame.map(pfn_of_mfn).and_then(mfn_of) != frame {
        return Err("a page table names a frame that isn't listed");
    }
    for pfn in 0..from_long(start_info().nr_pages) {
        if mfn_of(pfn).map(pfn_of_mfn) != Some(pfn) {
            return Err("the lists of frames disagree");
        }
    }
    Ok(())
}

/// Takes a new page, and maps it at a second address.
fn new_page_maps() -> Result<(), &'static str> {
    let page = allocate_page().ok_or("no page is left")?.cast::<u64>();
    let frame = mfn_of(pfn_of(page.addr() as u64)).ok_or("a page without frame")?;
    let window = Window::map(&[frame], DOMID_SELF, Access::ReadWrite);
    let window = window.map_err(|_| "a page can't be mapped twice")?;
    let same = window.as_ptr().cast::<u64>();
    // SAFETY: two mappings of a page that nothing else uses.
    let read = unsafe {
        page.write_volatile(frame);
        same.write_volatile(same.read_volatile() + 1);
        page.read_volatile()
    };
    if read == frame + 1 {
        Ok(())
    } else {
        Err("two mappings of a page differ")
    }
}

/// Sleeps until a timer fires. The clock must not be behind `since`.
fn time_goes_on(since: u64) -> Result<(), &'static str> {
    let port = events::bind_virq(VIRQ_TIMER, 0).map_err(|_| "no timer")?;
    let ticks = TICKS.load(Ordering::Relaxed);
    events::on(port, tick);
    let start = time::now_ns();
    if start < since {
        return Err("the clock went back");
    }
    hyper::set_timer(start + TIMER_NS).map_err(|_| "the timer is refused")?;
    while TICKS.load(Ordering::Relaxed) == ticks {
        events::close_upcalls();
        if TICKS.load(Ordering::Relaxed) == ticks {
            hyper::block();
        }
        events::open();
    }
    events::close(port).map_err(|_| "the timer's port can't be closed")?;
    if time::now_ns() < start + TIMER_NS {
        return Err("the timer fires early");
    }
    Ok(())
}

/// Opens the Xenstore and watches for requests.
fn connect() -> Result<Store, Fault> {
    let mut store = Store::open().ok_or_else(|| Fault::Refused("no Xenstore".to_string()))?;
    store.watch(WISH, "wish")?;
    Ok(store)
}

/// The domain's number.
fn domain(store: &mut Store) -> Result<String, Fault> {
    let domain = store.read("domid")?;
    Ok(String::from_utf8_lossy(&domain).into_owned())
}

/// Waits for a request, and accepts it.
fn wish(store: &mut Store) -> Result<Vec<u8>, Fault> {
    loop {
        events::take(store.port());
        while store.event()?.is_some() {
            let wish = store.read(WISH)?;
            if !wish.is_empty() {
                store.write(WISH, b"")?;
                return Ok(wish);
            }
        }
        let _ = events::wait(&[store.port()], 0);
    }
}

/// The machine frame of the root table.
fn root() -> Option<u64> {
    mfn_of(pfn_of(from_long(start_info().pt_base)))
}

fn run(vcpus: u32) -> Result<(), &'static str> {
    let mut memory: Vec<u64> = (0..WORDS).map(|index| word(index, 0)).collect();
    suspend::prepare().map_err(|_| "the frames of the domain can't be listed")?;
    let mut since = 0;
    let mut last_domain = String::new();
    let mut resumed = None;
    let mut store = connect().map_err(|_| "no Xenstore")?;
    registers::set(0)?;
    let process = Process::new()?;
    events::open();
    for round in 0.. {
        memory_is_kept(&memory, round)?;
        registers::are_kept(0)?;
        process.runs()?;
        fill(&mut memory, round + 1);
        new_page_maps()?;
        time_goes_on(since)?;
        let answered = |n: u32| SIGNALS[n as usize].load(Ordering::Acquire) == 1;
        signal_others(vcpus, answered)?;
        if resumed == Some(Resumed::Restored) {
            store = connect().map_err(|_| "no Xenstore after the restoration")?;
        }
        let domain = domain(&mut store).map_err(|_| "the Xenstore doesn't answer")?;
        let new = (domain != last_domain) == (resumed != Some(Resumed::InPlace));
        if !new {
            return Err("another domain than expected");
        }
        let (calls, root) = (process.calls, root().unwrap_or_default());
        println!(
            "round {round}: domain {domain}, {vcpus} vCPUs, {calls} system calls, root {root:#x}, {resumed:?}"
        );
        last_domain = domain;
        let wish = wish(&mut store).map_err(|_| "the Xenstore is gone")?;
        if wish != b"suspend" {
            return Ok(());
        }
        let still = |n: u32| STILL.load(Ordering::Acquire) & (1 << n) != 0;
        signal_others(vcpus, still)?;
        since = time::now_ns();
        // SAFETY: the other vCPUs only yield until the next round; no frame of others is mapped, and no reference to
        // the start info page is kept.
        let outcome = unsafe { suspend::suspend() };
        ROUND.fetch_add(1, Ordering::Release);
        resumed = Some(outcome.map_err(|_| "the domain can't be suspended")?);
        let moves = || STILL.load(Ordering::Acquire) == 0;
        if !time::wait_for(PATIENCE_NS, moves) {
            return Err("a vCPU doesn't go on");
        }
    }
    Ok(())
}

fn main() {
    let vcpus = smp::vcpus();
    for number in 1..vcpus {
        smp::start(number, secondary).expect("a vCPU");
    }
    match run(vcpus) {
        Ok(()) => println!("PASS suspend"),
        Err(why) => println!("FAIL suspend: {why}"),
    }
}
