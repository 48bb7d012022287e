//! Makes the calls that keep a CPU in ring 0 longest, for `scripts/bench longest`, which measures from outside.
//! `only=NAME` makes only one kind of them.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "makes page tables and raw hypercalls")]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;

use xenlike_rt::abi::event_channel::{
    EVTCHNOP_EXPAND_ARRAY, EVTCHNOP_INIT_CONTROL, EVTCHNOP_RESET, EvtchnExpandArray,
    EvtchnInitControl, EvtchnReset,
};
use xenlike_rt::abi::grant_table::{
    GNTTABOP_COPY, GNTTABOP_SETUP_TABLE, GnttabCopy, GnttabSetupTable,
};
use xenlike_rt::abi::hypercall::MULTICALL;
use xenlike_rt::abi::memory::{
    MemoryReservation, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP,
};
use xenlike_rt::abi::vcpu::{
    VCPUOP_SET_PERIODIC_TIMER, VCPUOP_STOP_PERIODIC_TIMER, VcpuSetPeriodicTimer,
};
use xenlike_rt::abi::xen::{
    DOMID_SELF, MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_UNPIN_TABLE, MmuUpdate, MmuextOp,
    MulticallEntry,
};
use xenlike_rt::abi::{GuestHandle, Long, hypercall};
use xenlike_rt::memory::{self, allocate_page, mfn_of, pfn_of};
use xenlike_rt::paging::{self, RAM_FLAGS, TABLE_FLAGS};
use xenlike_rt::{args, events, from_long, hyper, println, start_info, time};

xenlike_rt::entry!(main);

/// Number of entries in a table.
const ENTRIES: usize = 512;

/// Makes a page ready to become a table; returns its frame.
fn table(entry: impl Fn(usize) -> u64) -> u64 {
    let page = allocate_page().expect("a page");
    for index in 0..ENTRIES {
        // SAFETY: the page belongs to this function and isn't a table yet.
        unsafe { page.cast::<u64>().add(index).write(entry(index)) };
    }
    let address = page.expose_provenance() as u64;
    // SAFETY: the page is no longer written.
    unsafe { paging::make_read_only(address) }.expect("a read-only page");
    mfn_of(pfn_of(address)).expect("its frame")
}

fn extended(cmd: u32, frame: u64) {
    let request = MmuextOp {
        cmd,
        arg1: frame as Long,
        ..MmuextOp::default()
    };
    // SAFETY: the tables map nothing that is in use.
    unsafe { hyper::mmuext_op(&[request]) }.expect("done");
}

/// A memory_op call on extents of 2^`order` frames; returns the number done.
fn reserve(cmd: u32, frames: &mut [Long], order: u32) -> u64 {
    let mut request = MemoryReservation {
        nr_extents: frames.len() as Long,
        extent_start: GuestHandle::of_mut(frames),
        extent_order: order,
        domid: DOMID_SELF,
        ..MemoryReservation::default()
    };
    let done = hyper::memory_op(cmd, &mut request).unwrap_or(0);
    core::hint::black_box(frames);
    done
}

fn fresh(count: usize, order: u32) -> Vec<Long> {
    let first = start_info().nr_pages;
    (0..count as Long).map(|n| first + (n << order)).collect()
}

/// Single frames and 2 MiB extents, which are returned and allocated again while dirty.
fn frames() {
    for order in [0, 9] {
        let mut extents = fresh(if order == 0 { 4096 } else { 8 }, order);
        for _ in 0..2 {
            let got = reserve(XENMEM_POPULATE_PHYSMAP, &mut extents, order);
            println!("{got} extents of order {order}");
            let (given, _) = extents.split_at_mut(got as usize);
            reserve(XENMEM_DECREASE_RESERVATION, given, order);
            extents = fresh(extents.len(), order);
        }
    }
}

/// A page table whose frames are all freed with it: one alone, and 512 below one table.
fn leaving() {
    let mut extents = fresh(ENTRIES, 0);
    let got = reserve(XENMEM_POPULATE_PHYSMAP, &mut extents, 0);
    assert!(got == ENTRIES as u64, "no frames");
    let leaf = table(|index| from_long(extents[index]) << 12 | RAM_FLAGS);
    extended(MMUEXT_PIN_L1_TABLE, leaf);
    reserve(XENMEM_DECREASE_RESERVATION, &mut extents, 0);
    extended(MMUEXT_UNPIN_TABLE, leaf);

    let target = mfn_of(pfn_of(
        allocate_page().expect("a page").expose_provenance() as u64
    ));
    let entry = target.expect("its frame") << 12 | RAM_FLAGS;
    let leaves: Vec<u64> = (0..64)
        .map(|_| table(|_| entry) << 12 | TABLE_FLAGS)
        .collect();
    let upper = table(|index| leaves.get(index).copied().unwrap_or(0));
    extended(MMUEXT_PIN_L2_TABLE, upper);
    extended(MMUEXT_UNPIN_TABLE, upper);
}

/// A long list of updates of one table, and a long multicall.
fn lists() {
    let page = allocate_page().expect("a page").expose_provenance() as u64;
    let entry = mfn_of(pfn_of(page)).expect("its frame") << 12 | RAM_FLAGS;
    let leaf = table(|_| 0);
    extended(MMUEXT_PIN_L1_TABLE, leaf);
    let update = |n: usize| MmuUpdate {
        ptr: (leaf << 12) + 8 * (n % ENTRIES) as u64,
        val: if (n / ENTRIES).is_multiple_of(2) {
            entry
        } else {
            0
        },
    };
    let updates: Vec<MmuUpdate> = (0..8192).map(update).collect();
    // SAFETY: the mappings of the table are not in use.
    unsafe { hyper::mmu_update(&updates, DOMID_SELF) }.expect("updates");

    let call = MulticallEntry {
        op: hypercall::XEN_VERSION as Long,
        ..MulticallEntry::default()
    };
    let mut calls = vec![call; 4096];
    // SAFETY: the calls only read the version.
    unsafe { hyper::multicall(&mut calls) }.expect("calls");
    // SAFETY: a multicall in a multicall is refused.
    let _ = unsafe { hyper::raw(MULTICALL, [0, 0, 0, 0, 0]) };
    let text = vec![b'.'; 16384];
    let _ = hyper::console_write(&text);
}

fn grants() {
    let mut list: Vec<Long> = vec![0; 512];
    for frames in [4, 32, 64, 512] {
        let setup = GnttabSetupTable {
            dom: DOMID_SELF,
            nr_frames: frames,
            frame_list: GuestHandle::of_mut(&mut list[..]),
            ..GnttabSetupTable::default()
        };
        let mut setups = [setup; 8];
        let _ = hyper::grant_table_op(GNTTABOP_SETUP_TABLE, &mut setups);
        println!("{frames} grant frames: {}", setups[0].status);
    }
    let mut copies = vec![GnttabCopy::default(); 2048];
    let _ = hyper::grant_table_op(GNTTABOP_COPY, &mut copies);
}

/// All possible ports, with the pages of a queue, closed in one call.
fn ports() {
    let open = || {
        (0..4095)
            .take_while(|_| events::alloc_unbound(0).is_ok())
            .count()
    };
    println!("{} ports", open());
    let gfn = || {
        let page = allocate_page().expect("a page").expose_provenance() as u64;
        mfn_of(pfn_of(page)).expect("its frame")
    };
    let mut control = EvtchnInitControl {
        control_gfn: gfn(),
        ..EvtchnInitControl::default()
    };
    let outcome = hyper::event_channel_op(EVTCHNOP_INIT_CONTROL, &mut control);
    println!("queues: {outcome:?}");
    for _ in 0..128 {
        let mut expand = EvtchnExpandArray { array_gfn: gfn() };
        if hyper::event_channel_op(EVTCHNOP_EXPAND_ARRAY, &mut expand).is_err() {
            break;
        }
    }
    println!("{} more ports", open());
    let mut reset = EvtchnReset { dom: DOMID_SELF };
    let outcome = hyper::event_channel_op(EVTCHNOP_RESET, &mut reset);
    println!("reset: {outcome:?}");
}

/// Timers of all vCPUs that are due at the same moment, and one that is set repeatedly.
fn timers() {
    let mut period = VcpuSetPeriodicTimer {
        period_ns: 10_000_000,
    };
    let set = |vcpu: &u32| hyper::vcpu_op(VCPUOP_SET_PERIODIC_TIMER, *vcpu, &mut period).is_ok();
    let count = (0..512).take_while(set).count() as u32;
    println!("{count} periodic timers");
    time::sleep(50_000_000);
    for vcpu in 0..count {
        let _ = hyper::vcpu_op(VCPUOP_STOP_PERIODIC_TIMER, vcpu, &mut 0u64);
    }
    for n in 0..2000 {
        let _ = hyper::set_timer(time::now_ns() + 1000 + n);
    }
}

fn main() {
    let all: [(&str, fn()); 6] = [
        ("frames", frames),
        ("leaving", leaving),
        ("lists", lists),
        ("grants", grants),
        ("timers", timers),
        ("ports", ports),
    ];
    let only = args::value("only");
    for (name, act) in all {
        if only.is_none_or(|only| only == name) {
            println!("worst: {name}");
            act();
        }
    }
    println!("{} pages used", memory::used_pages());
    println!("PASS worst");
}
