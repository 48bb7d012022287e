//! Claim: changes of a guest's own mappings interrupt only its own CPUs. One vCPU maps and unmaps a grant, then turns
//! a page into a page table and back, each `rounds=N` times in a cycle; the other vCPU keeps its CPU busy. The test
//! counts the TLB flushes that each CPU was asked for.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "turns a page into a page table")]

use xenlike_rt::abi::xen::{MMUEXT_PIN_L1_TABLE, MMUEXT_UNPIN_TABLE, MmuextOp};
use xenlike_rt::abi::{Errno, Long};
use xenlike_rt::grants::{self, Mapping};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::paging::{self, Access};
use xenlike_rt::{args, events, hyper, println, smp};

xenlike_rt::entry!(main);

const CYCLES: u64 = 4;

fn keep_busy(_vcpu: u32) {
    events::close_upcalls();
    loop {
        core::hint::spin_loop();
    }
}

fn pin(cmd: u32, mfn: u64) -> Result<u64, Errno> {
    let request = MmuextOp {
        cmd,
        arg1: mfn as Long,
        ..MmuextOp::default()
    };
    // SAFETY: the caller's page is empty and has no other user.
    unsafe { hyper::mmuext_op(&[request]) }
}

/// Turns the page into a page table and back.
fn change_type(address: u64, mfn: u64) -> Result<(), Errno> {
    // SAFETY: no reference to the page exists.
    unsafe { paging::make_read_only(address) }?;
    pin(MMUEXT_PIN_L1_TABLE, mfn)?;
    pin(MMUEXT_UNPIN_TABLE, mfn)?;
    paging::make_writable(address)
}

fn main() {
    let rounds = args::number("rounds", 1000);
    let own = events::own_domain().expect("the own id");
    smp::start(1, keep_busy).expect("a second vCPU");
    let lent = allocate_page().expect("a page");
    let table = allocate_page().expect("a page").expose_provenance() as u64;
    let mfn = mfn_of(pfn_of(table)).expect("the domain's");
    for cycle in 0..=CYCLES {
        println!("cycle {cycle}");
        let reference = grants::give(own, lent, Access::ReadWrite).expect("a reference");
        for _ in 0..rounds {
            let mapping = Mapping::new(own, reference, Access::ReadWrite).expect("a mapping");
            // SAFETY: the page is mapped as long as `mapping` lives.
            unsafe { mapping.as_ptr().write_volatile(1) };
        }
        grants::take_back(reference).expect("the reference back");
        for _ in 0..rounds {
            // SAFETY: the page belongs to this guest, and isn't a table any more.
            unsafe { core::ptr::with_exposed_provenance_mut::<u64>(table as usize).write(0) };
            change_type(table, mfn).expect("a change of type");
        }
    }
    println!("PASS confined");
}
