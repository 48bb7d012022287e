//! Claim: when one vCPU maps another page as a page of the local descriptor table, another vCPU that has used the
//! table sees the new descriptors, each time the mapping changes.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "looks at segments, changes mappings")]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use xenlike_rt::abi::Long;
use xenlike_rt::abi::xen::{MMUEXT_SET_LDT, MmuextOp, UVMF_ALL, UVMF_TLB_FLUSH};
use xenlike_rt::memory::allocate_page;
use xenlike_rt::{hyper, paging, println, smp, time};

xenlike_rt::entry!(main);

const PATIENCE_NS: u64 = 30 * time::SECOND_NS;
const ROUNDS: u32 = 100;
/// Data segments of ring 3, distinguished by their limits.
const LIMITS: [u64; 2] = [0x1111, 0x2222];
const DATA: u64 = 0x0040_f300_0000_0000;
/// Selector of the second descriptor of the table, ring 3.
const SELECTOR: usize = 1 << 3 | 7;

static TABLE: AtomicU64 = AtomicU64::new(0);
/// How often the mapping has changed, and how often the other vCPU has checked since its start.
static CHANGES: AtomicU32 = AtomicU32::new(0);
static LOOKS: AtomicU32 = AtomicU32::new(0);
static SEEN: AtomicU64 = AtomicU64::new(0);

/// The limit of the segment in the table.
fn limit() -> u64 {
    let (limit, found): (usize, u8);
    // SAFETY: only looks a descriptor up.
    unsafe {
        asm!("lsl {limit}, {selector}", "setz {found}",
            limit = inout(reg) usize::MAX => limit, selector = in(reg) SELECTOR, found = out(reg_byte) found);
    }
    if found == 0 { 0 } else { limit as u64 }
}

/// Sets its own LDT and checks it after each change.
fn other(_number: u32) {
    let op = MmuextOp {
        cmd: MMUEXT_SET_LDT,
        arg1: TABLE.load(Ordering::Acquire) as Long,
        arg2: 2,
        ..MmuextOp::default()
    };
    // SAFETY: this vCPU had none before.
    if unsafe { hyper::mmuext_op(&[op]) }.is_err() {
        return;
    }
    for round in 0..=ROUNDS {
        if !time::wait_for(PATIENCE_NS, || CHANGES.load(Ordering::Acquire) >= round) {
            return;
        }
        SEEN.store(limit(), Ordering::Relaxed);
        LOOKS.fetch_add(1, Ordering::Release);
    }
}

fn run() -> Result<(), &'static str> {
    let table = allocate_page().ok_or("no page")?.expose_provenance() as u64;
    let mut entries = [0; 2];
    for (entry, limit) in entries.iter_mut().zip(LIMITS) {
        let page = allocate_page().ok_or("no page")?;
        let address = page.expose_provenance() as u64;
        // SAFETY: the page belongs to this function, and is not written afterwards.
        unsafe {
            page.cast::<[u64; 2]>().write([0, DATA | limit]);
            paging::make_read_only(address).map_err(|_| "a page can't be made read-only")?;
        }
        *entry = paging::entry_of(address).ok_or("a page is not mapped")?;
    }
    let map = |which: u32| {
        let entry = entries[which as usize % 2];
        // SAFETY: the page is used only for descriptors.
        unsafe { hyper::update_va_mapping(table, entry, UVMF_TLB_FLUSH | UVMF_ALL) }
    };
    map(0).map_err(|_| "the table can't be mapped")?;
    TABLE.store(table, Ordering::Release);
    smp::start(1, other).map_err(|_| "a vCPU does not start")?;
    for round in 0..=ROUNDS {
        if !time::wait_for(PATIENCE_NS, || LOOKS.load(Ordering::Acquire) > round) {
            return Err("the other vCPU does not look");
        }
        if SEEN.load(Ordering::Relaxed) != LIMITS[round as usize % 2] {
            return Err("the other vCPU sees a descriptor of before");
        }
        if round < ROUNDS {
            map(round + 1).map_err(|_| "the table can't be mapped elsewhere")?;
            CHANGES.store(round + 1, Ordering::Release);
        }
    }
    Ok(())
}

fn main() {
    match run() {
        Ok(()) => println!("PASS ldt"),
        Err(why) => println!("FAIL ldt: {why}"),
    }
}
