//! Attack: one vCPU runs on a code segment of its own table while another repeatedly makes that descriptor absent. An
//! interrupt of the first vCPU, above all an NMI of the machine, then can't return to it: the fault of that return
//! must become the guest's, not the hypervisor's. The test injects NMIs.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "runs on a code segment of its own")]

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use samples::{Attack, NARROW, Random};
use xenlike_rt::abi::arch_x86::FLAT_KERNEL_CS;
use xenlike_rt::abi::hypercall::SET_GDT;
use xenlike_rt::abi::{Errno, GuestHandle, Long};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::{args, from_long, hyper, paging, println, smp, time, traps};

xenlike_rt::entry!(main);

/// A flat code descriptor of the kernel's ring and width, and its present bit.
const CODE: u64 = if NARROW {
    0x00cf_bb00_0000_ffff
} else {
    0x00af_fb00_0000_ffff
};
const PRESENT: u64 = 1 << 47;
/// Index of the descriptor in the table.
const INDEX: u64 = 3;
const SELECTOR: u64 = INDEX << 3 | if NARROW { 1 } else { 3 };
/// Number of entries in a page.
const ENTRIES: u64 = 512;
const NOT_PRESENT: u8 = 11;
const PATIENCE_NS: u64 = 30 * time::SECOND_NS;

/// Machine frame of the table.
static TABLE: AtomicU64 = AtomicU64::new(0);
/// Counts while the other vCPU runs on its own code segment.
static COUNTER: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicBool = AtomicBool::new(false);
/// Number of returns to the segment that faulted.
static FAULTS: AtomicU64 = AtomicU64::new(0);
/// Whether the other vCPU has loaded its table.
static READY: AtomicBool = AtomicBool::new(false);

/// Handles a return that found the descriptor absent. Returning from here tries it again.
fn not_present(_frame: &mut traps::TrapFrame) {
    FAULTS.fetch_add(1, Ordering::Relaxed);
}

/// Counts on a code segment of its own until it is told to stop.
fn runner(_number: u32) {
    let frames = [TABLE.load(Ordering::Acquire) as Long];
    let handle = from_long(GuestHandle::of(&frames).0);
    // SAFETY: the guest's part of the table has not been used so far.
    if Errno::check(unsafe { hyper::raw(SET_GDT, [handle, ENTRIES, 0, 0, 0]) }).is_err() {
        return;
    }
    READY.store(true, Ordering::Release);
    // SAFETY: the table has the descriptor.
    unsafe { count() };
}

/// Counts on the descriptor until it is told to stop.
///
/// # Safety
/// The descriptor is in this vCPU's table.
#[cfg(target_pointer_width = "64")]
unsafe fn count() {
    // SAFETY: both selectors are flat code, and the operands are the addresses of the counter and the flag.
    unsafe {
        asm!(
            "push {own}",
            "lea {at}, [rip + 2f]",
            "push {at}",
            "retfq",
            "2: inc qword ptr [{counter}]",
            "cmp byte ptr [{stop}], 0",
            "je 2b",
            "push {flat}",
            "lea {at}, [rip + 3f]",
            "push {at}",
            "retfq",
            "3:",
            own = const SELECTOR,
            flat = const FLAT_KERNEL_CS,
            at = out(reg) _,
            counter = in(reg) COUNTER.as_ptr(),
            stop = in(reg) STOP.as_ptr(),
        );
    }
}

/// Counts on the descriptor until it is told to stop.
///
/// # Safety
/// The descriptor is in this vCPU's table.
#[cfg(target_pointer_width = "32")]
unsafe fn count() {
    // SAFETY: both selectors are flat code, and the operands are the addresses of the counter and the flag.
    unsafe {
        asm!(
            "push {own}",
            "lea {at}, [2f]",
            "push {at}",
            "retf",
            "2: inc dword ptr [{counter}]",
            "cmp byte ptr [{stop}], 0",
            "je 2b",
            "push {flat}",
            "lea {at}, [3f]",
            "push {at}",
            "retf",
            "3:",
            own = const SELECTOR,
            flat = const FLAT_KERNEL_CS,
            at = out(reg) _,
            counter = in(reg) COUNTER.as_ptr(),
            stop = in(reg) STOP.as_ptr(),
        );
    }
}

/// Makes a page with the descriptor that the hypervisor accepts as a table. Returns its machine address.
fn make_table() -> Result<u64, &'static str> {
    let page = allocate_page().ok_or("no page")?;
    let address = page.expose_provenance() as u64;
    // SAFETY: the page belongs to this function, and is not written afterwards.
    unsafe {
        page.cast::<u64>().add(INDEX as usize).write(CODE);
        paging::make_read_only(address).map_err(|_| "the table can't be made read-only")?;
    }
    mfn_of(pfn_of(address)).ok_or("the table is nowhere")
}

fn toggle(table: u64, seconds: u64) -> Result<u64, &'static str> {
    let set = |descriptor: u64| {
        // SAFETY: either the same descriptor, or one whose faults are expected.
        let outcome = unsafe { hyper::update_descriptor((table << 12) + INDEX * 8, descriptor) };
        outcome.map_err(|_| "the descriptor can't be changed")
    };
    let mut random = Random::new(args::number("seed", 1));
    let end = time::now_ns() + seconds * time::SECOND_NS;
    let mut rounds = 0;
    while time::now_ns() < end {
        set(CODE)?;
        let before = COUNTER.load(Ordering::Relaxed);
        if !time::wait_for(PATIENCE_NS, || COUNTER.load(Ordering::Relaxed) != before) {
            return Err("the other vCPU does not run on its segment");
        }
        set(CODE & !PRESENT)?;
        let absent_until = time::now_ns() + random.below(20_000_000);
        while time::now_ns() < absent_until {
            core::hint::spin_loop();
        }
        rounds += 1;
        if rounds == 1 {
            println!("runs on a segment of its own");
        }
    }
    set(CODE)?;
    Ok(rounds)
}

fn run() -> Result<u64, &'static str> {
    let table = make_table()?;
    TABLE.store(table, Ordering::Release);
    traps::on(NOT_PRESENT, not_present);
    smp::start(1, runner).map_err(|_| "a vCPU does not start")?;
    if !time::wait_for(PATIENCE_NS, || READY.load(Ordering::Acquire)) {
        return Err("the other vCPU has no table");
    }
    let rounds = toggle(table, args::number("seconds", 10))?;
    STOP.store(true, Ordering::Release);
    Ok(rounds)
}

fn main() {
    let mut attack = Attack::new(
        "hostile-nmi",
        "be interrupted where no return leads back to",
    );
    match run() {
        Ok(rounds) => {
            let faults = FAULTS.load(Ordering::Relaxed);
            println!("{rounds} rounds, {faults} returns faulted");
            attack.holds("some returns faulted", faults > 0);
        }
        Err(why) => attack.holds(why, false),
    }
    attack.finish();
}
