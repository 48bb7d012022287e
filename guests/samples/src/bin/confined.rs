//! Claim: what a guest does to its own mappings interrupts its own CPUs alone. One vCPU maps and
//! unmaps a grant, then turns a page into a page table and back, both `rounds=N` times a cycle; the
//! other one keeps its CPU. The test counts the TLB flushes that each CPU was asked for.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "turns a page into a page table")]

use xenlike_rt::abi::Errno;
use xenlike_rt::abi::xen::{MMUEXT_PIN_L1_TABLE, MMUEXT_UNPIN_TABLE, MmuextOp};
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
        arg1: mfn,
        ..MmuextOp::default()
    };
    // SAFETY: the caller's page is empty, and nothing else uses it.
    unsafe { hyper::mmuext_op(&[request]) }
}

/// The page becomes a page table and a page again.
fn change_type(address: u64, mfn: u64) -> Result<(), Errno> {
    // SAFETY: nobody has a reference to the page.
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
            // SAFETY: it is there as long as it lives.
            unsafe { mapping.as_ptr().write_volatile(1) };
        }
        grants::take_back(reference).expect("the reference back");
        for _ in 0..rounds {
            // SAFETY: the page is the guest's, and a page again.
            unsafe { core::ptr::with_exposed_provenance_mut::<u64>(table as usize).write(0) };
            change_type(table, mfn).expect("a change of type");
        }
    }
    println!("PASS confined");
}
