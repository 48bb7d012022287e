//! Attack: grant, map, copy and revoke the same grants from two vCPUs at once. Afterwards, no reference may be
//! left over or missing.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "pins a page to see that no reference is left")]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use samples::Attack;
use xenlike_rt::abi::Long;
use xenlike_rt::abi::grant_table::{
    GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GnttabCopy, GnttabCopyPtr,
};
use xenlike_rt::abi::xen::{MMUEXT_PIN_L1_TABLE, MMUEXT_UNPIN_TABLE, MmuextOp};
use xenlike_rt::grants::{self, Mapping};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::paging::{self, Access};
use xenlike_rt::{args, events, hyper, println, smp, time};

xenlike_rt::entry!(main);

static PAGE: AtomicU64 = AtomicU64::new(0);
static OWN: AtomicU32 = AtomicU32::new(0);
/// The reference for which both vCPUs race.
static REFERENCE: AtomicU32 = AtomicU32::new(0);
static ROUNDS: AtomicU64 = AtomicU64::new(0);
static GIVEN: AtomicU64 = AtomicU64::new(0);

/// Grants and revokes, alternating the kind of access, until the other vCPU is done.
fn revoker(_vcpu: u32) {
    let own = OWN.load(Ordering::Relaxed) as u16;
    let page = core::ptr::with_exposed_provenance::<u8>(PAGE.load(Ordering::Relaxed) as usize);
    let mut access = Access::ReadWrite;
    while ROUNDS.load(Ordering::Relaxed) > 0 {
        let Ok(reference) = grants::give(own, page, access) else {
            break;
        };
        REFERENCE.store(reference, Ordering::Release);
        GIVEN.fetch_add(1, Ordering::Relaxed);
        while grants::take_back(reference).is_err() {
            core::hint::spin_loop();
        }
        access = match access {
            Access::ReadWrite => Access::ReadOnly,
            Access::ReadOnly => Access::ReadWrite,
        };
    }
    REFERENCE.store(0, Ordering::Release);
    GIVEN.fetch_or(1 << 63, Ordering::Release);
}

fn copy(own: u16, reference: u32) -> bool {
    let side = |offset| GnttabCopyPtr {
        u: Long::from(reference),
        domid: own,
        offset,
        ..GnttabCopyPtr::default()
    };
    let mut request = [GnttabCopy {
        source: side(0),
        dest: side(2048),
        len: 512,
        flags: GNTCOPY_SOURCE_GREF | GNTCOPY_DEST_GREF,
        ..GnttabCopy::default()
    }];
    grants::copy(&mut request).is_ok() && request[0].status == 0
}

fn main() {
    let mut attack = Attack::new("hostile-grants", "race grants against their revocation");
    let page = allocate_page().expect("a page");
    let address = page.expose_provenance() as u64;
    let own = events::own_domain().expect("the own id");
    let rounds = args::number("rounds", 20_000);
    PAGE.store(address, Ordering::Relaxed);
    OWN.store(u32::from(own), Ordering::Relaxed);
    ROUNDS.store(rounds, Ordering::Relaxed);
    let alone = smp::start(1, revoker).is_err();
    if alone {
        println!("  no second vCPU: no race");
        GIVEN.store(1 << 63, Ordering::Relaxed);
    }

    let (mut mapped, mut copied) = (0u64, 0u64);
    for round in 0..rounds {
        let reference = REFERENCE.load(Ordering::Acquire);
        let access = if round % 3 == 0 {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        };
        if let Ok(mapping) = Mapping::new(own, reference, access) {
            mapped += 1;
            // SAFETY: the page is mapped as long as `mapping` lives.
            let _ = unsafe { mapping.as_ptr().read_volatile() };
        }
        copied += u64::from(copy(own, reference));
    }
    ROUNDS.store(0, Ordering::Relaxed);
    let end = time::now_ns() + 30 * time::SECOND_NS;
    while GIVEN.load(Ordering::Acquire) >> 63 == 0 && time::now_ns() < end {
        hyper::yield_now();
    }
    let given = GIVEN.load(Ordering::Acquire);
    println!(
        "  {} times given, {mapped} times mapped, {copied} times copied",
        given & !(1 << 63)
    );
    attack.holds("all were taken back", given >> 63 == 1);
    attack.refused(
        "the last reference",
        Mapping::new(own, 9, Access::ReadOnly).map(|m| m.as_ptr()),
    );

    // With a writable reference left over, the page could not become a table; with one missing, it could be freed
    // while mapped.
    let mfn = mfn_of(pfn_of(address)).expect("the domain's");
    // SAFETY: the page has no other user now.
    let pinned = unsafe {
        page.write_bytes(0, 4096);
        let request = |cmd| {
            [MmuextOp {
                cmd,
                arg1: mfn as Long,
                ..MmuextOp::default()
            }]
        };
        paging::make_read_only(address)
            .and_then(|()| hyper::mmuext_op(&request(MMUEXT_PIN_L1_TABLE)))
            .and_then(|_| hyper::mmuext_op(&request(MMUEXT_UNPIN_TABLE)))
    };
    attack.holds("no reference is left on the page", pinned.is_ok());
    attack.finish();
}
