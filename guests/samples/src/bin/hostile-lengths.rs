//! Attack: counts and sizes of 2^64-1 and other absurd values, with valid pointers. The buffer is a page of ones with
//! an unmapped page after it, so that requests read from it have no effect.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "makes calls with absurd lengths")]

use samples::Attack;
use xenlike_rt::abi::hypercall::{
    CONSOLE_IO, GRANT_TABLE_OP, MEMORY_OP, MMU_UPDATE, MMUEXT_OP, MULTICALL, SCHED_OP, SET_GDT,
};
use xenlike_rt::abi::memory::{
    MachphysMfnList, MemAcquireResource, MemoryExchange, MemoryMap, MemoryReservation,
    XENMEM_ACQUIRE_RESOURCE, XENMEM_DECREASE_RESERVATION, XENMEM_EXCHANGE,
    XENMEM_MACHPHYS_MFN_LIST, XENMEM_MEMORY_MAP, XENMEM_POPULATE_PHYSMAP,
};
use xenlike_rt::abi::sched::{SCHEDOP_POLL, SchedPoll};
use xenlike_rt::abi::xen::{CONSOLEIO_WRITE, DOMID_SELF};
use xenlike_rt::abi::{Errno, GuestHandle, Long, grant_table};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::paging::{Access, Window};
use xenlike_rt::{from_long, hyper, time};

xenlike_rt::entry!(main);

#[cfg(target_pointer_width = "32")]
const LENGTHS: [u64; 8] = [
    0xffff_ffff,
    0xffff_fff8,
    1 << 31,
    (1 << 31) - 1,
    1 << 29,
    1 << 27,
    1 << 26,
    1 << 20,
];
#[cfg(target_pointer_width = "64")]
const LENGTHS: [u64; 8] = [
    u64::MAX,
    u64::MAX - 7,
    1 << 63,
    (1 << 63) - 1,
    1 << 61,
    1 << 58,
    1 << 48,
    1 << 32,
];
const SELF: u64 = DOMID_SELF as u64;

/// A call that may return anything except an impossible count.
fn call(attack: &mut Attack, name: &str, number: u64, arguments: [u64; 5]) {
    // SAFETY: the buffer belongs to this guest, and its contents request nothing that has an effect.
    let outcome = Errno::check(unsafe { hyper::raw(number, arguments) });
    match outcome {
        Ok(value) if value > 1 << 32 => attack.refused(name, Ok::<u64, Errno>(value)),
        outcome => attack.any(name, outcome),
    }
}

fn arrays(attack: &mut Attack, buffer: &Window, length: u64) {
    let page = buffer.address();
    // SAFETY: the buffer is mapped writable and only used here.
    unsafe { buffer.as_ptr().write_bytes(0xff, 4096) };
    call(attack, "mmu_update", MMU_UPDATE, [page, length, 0, SELF, 0]);
    call(attack, "mmuext_op", MMUEXT_OP, [page, length, 0, SELF, 0]);
    call(
        attack,
        "console",
        CONSOLE_IO,
        [u64::from(CONSOLEIO_WRITE), length, 8, 0, 0],
    );
    call(attack, "set_gdt", SET_GDT, [page, length | 8193, 0, 0, 0]);
    call(attack, "multicall", MULTICALL, [page, length, 0, 0, 0]);
    for op in [grant_table::GNTTABOP_QUERY_SIZE, grant_table::GNTTABOP_COPY] {
        // SAFETY: as above.
        unsafe { buffer.as_ptr().write_bytes(0xff, 4096) };
        call(
            attack,
            "grants",
            GRANT_TABLE_OP,
            [u64::from(op), page, length, 0, 0],
        );
    }
    call(
        attack,
        "poll",
        SCHED_OP,
        [u64::from(SCHEDOP_POLL), 8, length, length, length],
    );
}

fn memory(attack: &mut Attack, buffer: &Window, length: u64) {
    let list = GuestHandle(buffer.address() as Long);
    // SAFETY: as above.
    unsafe { buffer.as_ptr().write_bytes(0xff, 4096) };
    let reservation = MemoryReservation {
        extent_start: list,
        nr_extents: length as Long,
        domid: DOMID_SELF,
        ..MemoryReservation::default()
    };
    for op in [XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP] {
        let mut reservation = reservation;
        let pointer = from_long(GuestHandle::of_mut(&mut reservation).0);
        call(
            attack,
            "reservation",
            MEMORY_OP,
            [u64::from(op), pointer, 0, 0, 0],
        );
    }
    let mut exchange = MemoryExchange {
        in_: reservation,
        out: MemoryReservation {
            extent_order: 9,
            ..reservation
        },
        nr_exchanged: length as Long,
    };
    attack.refused("exchange", hyper::memory_op(XENMEM_EXCHANGE, &mut exchange));
    let mut frames = MachphysMfnList {
        max_extents: length as u32,
        extent_start: list,
        ..MachphysMfnList::default()
    };
    attack.any(
        "M2P frames",
        hyper::memory_op(XENMEM_MACHPHYS_MFN_LIST, &mut frames),
    );
    let mut map = MemoryMap {
        nr_entries: length as u32,
        buffer: list,
        ..MemoryMap::default()
    };
    attack.any("memory map", hyper::memory_op(XENMEM_MEMORY_MAP, &mut map));
    let mut resource = MemAcquireResource {
        domid: DOMID_SELF,
        nr_frames: length as u32,
        frame: length,
        frame_list: list,
        ..MemAcquireResource::default()
    };
    attack.refused(
        "resource",
        hyper::memory_op(XENMEM_ACQUIRE_RESOURCE, &mut resource),
    );
    let mut poll = SchedPoll {
        ports: list,
        nr_ports: (length as u32).max(129),
        timeout: time::now_ns() + 1_000_000,
        ..SchedPoll::default()
    };
    attack.refused("poll", hyper::sched_op(SCHEDOP_POLL, &mut poll));
}

fn main() {
    let mut attack = Attack::new("hostile-lengths", "pass absurd lengths");
    let page = allocate_page().expect("a page");
    let mfn = mfn_of(pfn_of(page.expose_provenance() as u64)).expect("the domain's");
    let buffer = Window::reserve(2).expect("addresses");
    buffer
        .map_in(&[mfn], DOMID_SELF, Access::ReadWrite)
        .expect("a mapping");
    for length in LENGTHS {
        xenlike_rt::println!(" length {length:#x}:");
        arrays(&mut attack, &buffer, length);
        memory(&mut attack, &buffer, length);
    }
    attack.finish();
}
