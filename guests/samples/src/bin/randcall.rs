//! Attack: random hypercalls with random arguments, from every vCPU at once. Each must return an errno or affect only
//! this domain. `seed=N` and `calls=N` on the command line are printed, so that a run can be repeated. In a test
//! build of the hypervisor, an audit runs after each `audit=N` calls of a vCPU.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "makes random calls")]

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use samples::{BAD_ADDRESSES, Random};
use xenlike_rt::abi::hypercall::{
    CALLBACK_OP, IRET, MULTICALL, NMI_OP, SCHED_OP, SCHED_OP_COMPAT, SET_CALLBACKS, SET_TRAP_TABLE,
    STACK_SWITCH, UPDATE_VA_MAPPING, UPDATE_VA_MAPPING_OTHERDOMAIN, VCPU_OP,
};
use xenlike_rt::abi::sched::{
    SCHEDOP_BLOCK, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG,
};
use xenlike_rt::abi::vcpu::{VCPUOP_DOWN, VCPUOP_INITIALISE};
use xenlike_rt::abi::xen::DOMID_SELF;
use xenlike_rt::hyper::Audit;
use xenlike_rt::{args, cpu, hyper, memory, println, smp, time, traps};

xenlike_rt::entry!(main);

const VICTIM_PAGES: u64 = 64;

/// First of the frames that the calls may use for anything.
static VICTIMS: AtomicU64 = AtomicU64::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);
static AUDIT: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);
static SUCCEEDED: AtomicU64 = AtomicU64::new(0);
/// Whether an audit has found a disagreement.
static DIFFERS: AtomicBool = AtomicBool::new(false);

/// Whether a call would end, stop or break this domain; nothing of interest could follow.
fn ends_itself(number: u64, arguments: &[u64; 5]) -> bool {
    let cmd = arguments[0] as u32;
    match number {
        IRET | STACK_SWITCH | SET_CALLBACKS | CALLBACK_OP | NMI_OP | SET_TRAP_TABLE => true,
        SCHED_OP | SCHED_OP_COMPAT => [
            SCHEDOP_BLOCK,
            SCHEDOP_POLL,
            SCHEDOP_SHUTDOWN,
            SCHEDOP_SHUTDOWN_CODE,
            SCHEDOP_WATCHDOG,
        ]
        .contains(&cmd),
        VCPU_OP => [VCPUOP_DOWN, VCPUOP_INITIALISE].contains(&cmd),
        // These would change the runtime's own mappings.
        UPDATE_VA_MAPPING | UPDATE_VA_MAPPING_OTHERDOMAIN => arguments[0] >= memory::VIRT_BASE,
        _ => false,
    }
}

/// A random argument: small, a domain, a valid or invalid pointer, or anything.
fn argument(random: &mut Random, buffer: u64) -> u64 {
    match random.below(10) {
        0..=3 => random.below(40),
        4 => u64::from(DOMID_SELF),
        5 => BAD_ADDRESSES[random.below(BAD_ADDRESSES.len() as u64) as usize],
        6 => random.next(),
        7 => 1 << random.below(64),
        _ => buffer + (random.below(256) & !7),
    }
}

/// Fills the buffer with words as they occur in structures.
fn fill(random: &mut Random, buffer: u64) {
    for index in 0..48 {
        let word = match random.below(7) {
            0 => random.below(16),
            1 => u64::from(DOMID_SELF) | (random.below(4) << 32),
            2 => buffer + (random.below(512) & !7),
            3 => random.next(),
            4 => victim(random),
            5 => (victim(random) << 12) | random.below(4096),
            _ => 0,
        };
        let slot = core::ptr::with_exposed_provenance_mut::<u64>(buffer as usize);
        // SAFETY: the buffer is this vCPU's own page.
        unsafe { slot.add(index).write_volatile(word) };
    }
}

/// A frame of this guest that the runtime doesn't use, so that any use of it is harmless. Calls that hit the
/// runtime's own pages only end the run early.
fn victim(random: &mut Random) -> u64 {
    let first = VICTIMS.load(Ordering::Relaxed);
    memory::mfn_of(first + random.below(VICTIM_PAGES)).unwrap_or(0)
}

fn run(number: u32) {
    let mut random = Random::new(
        SEED.load(Ordering::Relaxed)
            .wrapping_add(u64::from(number) << 32),
    );
    let buffer = memory::allocate_page().expect("a page").expose_provenance() as u64;
    let calls = CALLS.load(Ordering::Relaxed);
    let between = AUDIT.load(Ordering::Relaxed);
    for count in 1..=calls {
        if count.checked_rem(between) == Some(0) && hyper::audit() == Audit::Differs {
            DIFFERS.store(true, Ordering::Relaxed);
            println!("FAIL randcall: an audit finds something");
        }
        if random.below(4) == 0 {
            fill(&mut random, buffer);
        }
        let call = if random.below(16) == 0 {
            random.next()
        } else {
            random.below(64)
        };
        let mut arguments = [0; 5];
        for word in &mut arguments {
            *word = argument(&mut random, buffer);
        }
        // A multicall would make the calls that are left out here.
        if call == MULTICALL || ends_itself(call, &arguments) {
            continue;
        }
        // SAFETY: it may harm this guest, which is acceptable.
        let answer = unsafe { hyper::raw(call, arguments) };
        SUCCEEDED.fetch_add(u64::from(answer >= 0), Ordering::Relaxed);
    }
    DONE.fetch_add(1, Ordering::Release);
}

fn main() {
    let seed = args::number("seed", time::now_ns() | 1);
    let calls = args::number("calls", 20_000);
    println!("randcall: seed={seed} calls={calls}");
    println!("randcall: expects to be killed perhaps, by what it does to itself");
    let victims = memory::allocate_pages(VICTIM_PAGES as usize).expect("pages");
    let address = victims.expose_provenance() as u64;
    VICTIMS.store(memory::pfn_of(address), Ordering::Relaxed);
    // Exceptions by breakpoints that the calls set, and by the FPU that they disable.
    for vector in [1, 7] {
        traps::on(vector, |_| ());
    }
    SEED.store(seed, Ordering::Relaxed);
    CALLS.store(calls, Ordering::Relaxed);
    AUDIT.store(args::number("audit", calls / 2), Ordering::Relaxed);
    let mut vcpus = 1;
    while smp::start(vcpus, run).is_ok() {
        vcpus += 1;
    }
    run(cpu::number());
    wait_for_all(vcpus);
    let succeeded = SUCCEEDED.load(Ordering::Relaxed);
    println!("{vcpus} vCPUs, {succeeded} calls succeeded");
    if !DIFFERS.load(Ordering::Relaxed) {
        println!("PASS randcall");
    }
}

/// Waits until all vCPUs have made their calls. Doesn't wait for a vCPU that a call has stopped for good.
fn wait_for_all(vcpus: u32) {
    let mut before = 0;
    while DONE.load(Ordering::Acquire) < vcpus {
        let now = SUCCEEDED.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
        let end = time::now_ns() + 60 * time::SECOND_NS;
        while DONE.load(Ordering::Acquire) < vcpus && time::now_ns() < end {
            hyper::yield_now();
        }
    }
}
