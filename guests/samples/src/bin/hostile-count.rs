//! Attack: overflow counters: mappings of one frame, pins, ports, grants, pages.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "makes many mappings")]

use samples::{Attack, NARROW};
use xenlike_rt::abi::memory::{MemoryReservation, XENMEM_INCREASE_RESERVATION};
use xenlike_rt::abi::xen::{
    DOMID_SELF, MMUEXT_PIN_L1_TABLE, MMUEXT_UNPIN_TABLE, MmuextOp, VIRQ_DEBUG, VIRQ_TIMER,
};
use xenlike_rt::abi::{GuestHandle, Long};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::paging::{self, Access, Window};
use xenlike_rt::{args, events, grants, hyper, println};

xenlike_rt::entry!(main);

fn request(cmd: u32, mfn: u64) -> Result<u64, xenlike_rt::abi::Errno> {
    // SAFETY: the page has no other use.
    unsafe {
        hyper::mmuext_op(&[MmuextOp {
            cmd,
            arg1: mfn as Long,
            ..MmuextOp::default()
        }])
    }
}

/// Maps one frame writable very often. It can't become a table before the last mapping is gone.
fn mappings(attack: &mut Attack) {
    let page = allocate_page().expect("a page");
    let address = page.expose_provenance() as u64;
    let mfn = mfn_of(pfn_of(address)).expect("the domain's");
    let wanted = args::number("mappings", if NARROW { 20_000 } else { 70_000 });
    let window = Window::reserve(wanted).expect("addresses");
    let frames = [mfn; 256];
    let mut done = 0;
    let mut windows = alloc::vec::Vec::new();
    while done < wanted {
        match Window::map(&frames, DOMID_SELF, Access::ReadWrite) {
            Ok(window) => windows.push(window),
            Err(error) => {
                println!("  no more than {done} mappings: {error}");
                break;
            }
        }
        done += 256;
    }
    drop(window);
    // SAFETY: the page is only used here.
    unsafe { paging::make_read_only(address) }.expect("read-only");
    attack.refused(
        "a frame with many writable mappings pinned",
        request(MMUEXT_PIN_L1_TABLE, mfn),
    );
    let last = windows.pop();
    drop(windows);
    attack.refused("with 256 left", request(MMUEXT_PIN_L1_TABLE, mfn));
    drop(last);
    attack.holds(
        "with none it can be",
        request(MMUEXT_PIN_L1_TABLE, mfn).is_ok(),
    );
    attack.refused("pinned again", request(MMUEXT_PIN_L1_TABLE, mfn));
    attack.holds("unpinned", request(MMUEXT_UNPIN_TABLE, mfn).is_ok());
    attack.refused("unpinned again", request(MMUEXT_UNPIN_TABLE, mfn));
    attack.holds("writable again", paging::make_writable(address).is_ok());
}

fn ports(attack: &mut Attack) {
    let mut ports = alloc::vec::Vec::new();
    let refusal = loop {
        match events::alloc_unbound(DOMID_SELF) {
            Ok(port) => ports.push(port),
            Err(error) => break error,
        }
        if ports.len() > 200_000 {
            attack.holds("ports end somewhere", false);
            return;
        }
    };
    println!("  {} ports, then {refusal}", ports.len());
    for port in &ports {
        let _ = events::close(*port);
    }
    attack.refused("a port closed twice", events::close(ports[0]));
    let again = events::alloc_unbound(DOMID_SELF);
    attack.holds("ports come back", again.is_ok());
    attack.any("a timer port", events::bind_virq(VIRQ_TIMER, 0));
    attack.refused("a second one", events::bind_virq(VIRQ_TIMER, 0));
    for (virq, vcpu) in [
        (VIRQ_DEBUG, 1000),
        (24, 0),
        (u32::MAX, 0),
        (VIRQ_TIMER, u32::MAX),
    ] {
        attack.refused("a port for nothing", events::bind_virq(virq, vcpu));
    }
}

fn mapped_grants(attack: &mut Attack) {
    let own = events::own_domain().expect("the own id");
    let page = allocate_page().expect("a page");
    let reference = grants::give(own, page, Access::ReadWrite).expect("a grant");
    let mut mapped = alloc::vec::Vec::new();
    for _ in 0..args::number("grants", 2000) {
        match grants::Mapping::new(own, reference, Access::ReadWrite) {
            Ok(mapping) => mapped.push(mapping),
            Err(error) => {
                println!(
                    "  no more than {} mappings of one grant: {error}",
                    mapped.len()
                );
                break;
            }
        }
    }
    if !mapped.is_empty() {
        attack.refused("a mapped grant taken back", grants::take_back(reference));
    }
    drop(mapped);
    attack.holds("unmapped, it can be", grants::take_back(reference).is_ok());
}

fn pages(attack: &mut Attack) {
    let mut frames: [Long; 512] = [0; 512];
    let mut got = 0;
    loop {
        let mut argument = MemoryReservation {
            extent_start: GuestHandle::of_mut(&mut frames),
            nr_extents: 512,
            domid: DOMID_SELF,
            ..MemoryReservation::default()
        };
        match hyper::memory_op(XENMEM_INCREASE_RESERVATION, &mut argument) {
            Ok(count @ 1..) => got += count,
            _ => break,
        }
        if got > 1 << 20 {
            break;
        }
    }
    attack.holds("pages end at the domain's limit", got < 1 << 20);
    println!("  {got} pages more than it was born with");
}

fn main() {
    let mut attack = Attack::new("hostile-count", "overflow counts");
    mappings(&mut attack);
    ports(&mut attack);
    mapped_grants(&mut attack);
    pages(&mut attack);
    attack.finish();
}

extern crate alloc;
