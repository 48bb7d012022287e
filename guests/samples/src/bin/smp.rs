//! Claim: every vCPU starts, runs on its own stack at the same time as the others, receives interrupts from another
//! vCPU, and goes down again. `vcpus=N` on the command line says how many there must be.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use xenlike_rt::abi::vcpu::VCPUOP_IS_UP;
use xenlike_rt::sync::Lock;
use xenlike_rt::{args, events, hyper, println, smp, time};

xenlike_rt::entry!(main);

const ROUNDS: u64 = 10_000;
const PATIENCE_NS: u64 = 30 * time::SECOND_NS;

static RUNNING: AtomicU32 = AtomicU32::new(0);
static ALL: AtomicU32 = AtomicU32::new(0);
static SUM: Lock<u64> = Lock::new(0);
static WOKEN: AtomicU64 = AtomicU64::new(0);
static PORTS: [AtomicU32; 32] = [const { AtomicU32::new(0) }; 32];

fn woken(_port: events::Port) {
    WOKEN.fetch_or(1 << xenlike_rt::cpu::number(), Ordering::Relaxed);
}

fn secondary(number: u32) {
    let port = events::bind_ipi(number).expect("an IPI port");
    events::on(port, woken);
    PORTS[number as usize].store(port, Ordering::Relaxed);
    RUNNING.fetch_add(1, Ordering::Release);
    // Waits until all have arrived here, which takes vCPUs that really run at the same time.
    while RUNNING.load(Ordering::Acquire) < ALL.load(Ordering::Relaxed) {
        hyper::yield_now();
    }
    for _ in 0..ROUNDS {
        *SUM.lock() += 1;
    }
    loop {
        events::close_upcalls();
        if WOKEN.load(Ordering::Relaxed) & (1 << number) != 0 {
            break;
        }
        hyper::block();
    }
    println!("vCPU {number} was woken and goes down");
    RUNNING.fetch_sub(1, Ordering::Release);
}

fn run(vcpus: u32) -> Result<(), &'static str> {
    ALL.store(vcpus, Ordering::Relaxed);
    for number in 1..vcpus {
        smp::start(number, secondary).map_err(|_| "a vCPU does not start")?;
    }
    RUNNING.fetch_add(1, Ordering::Release);
    if !time::wait_for(PATIENCE_NS, || RUNNING.load(Ordering::Acquire) >= vcpus) {
        return Err("not all vCPUs run");
    }
    for _ in 0..ROUNDS {
        *SUM.lock() += 1;
    }
    let sum = ROUNDS * u64::from(vcpus);
    if !time::wait_for(PATIENCE_NS, || *SUM.lock() == sum) {
        return Err("the lock lost additions");
    }
    for port in &PORTS[1..vcpus as usize] {
        events::send(port.load(Ordering::Relaxed)).map_err(|_| "an IPI is refused")?;
    }
    let down = |vcpu| hyper::vcpu_op(VCPUOP_IS_UP, vcpu, &mut 0u64) == Ok(0);
    if !time::wait_for(PATIENCE_NS, || (1..vcpus).all(down)) {
        return Err("not all vCPUs went down");
    }
    Ok(())
}

fn main() {
    let vcpus = smp::vcpus();
    println!("{vcpus} vCPUs");
    let wanted = args::number("vcpus", u64::from(vcpus));
    if wanted != u64::from(vcpus) {
        println!("FAIL smp: {wanted} vCPUs were promised");
        return;
    }
    match run(vcpus) {
        Ok(()) => println!("PASS smp"),
        Err(why) => println!("FAIL smp: {why}"),
    }
}
