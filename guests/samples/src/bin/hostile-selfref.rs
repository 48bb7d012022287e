//! Attack: page tables that contain themselves, or each other in a ring.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "asks for tables that must be refused")]

use samples::{Attack, LEVELS};
use xenlike_rt::abi::Long;
use xenlike_rt::abi::xen::{
    DOMID_SELF, MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE,
    MMUEXT_UNPIN_TABLE, MmuUpdate, MmuextOp,
};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::paging::{self, ACCESSED, PRESENT, TABLE_FLAGS, USER};
use xenlike_rt::{from_long, hyper, start_info};

xenlike_rt::entry!(main);

const PINS: [u32; 4] = [
    MMUEXT_PIN_L1_TABLE,
    MMUEXT_PIN_L2_TABLE,
    MMUEXT_PIN_L3_TABLE,
    MMUEXT_PIN_L4_TABLE,
];

fn pin(cmd: u32, mfn: u64) -> Result<u64, xenlike_rt::abi::Errno> {
    // SAFETY: the tables are not part of the running address space.
    unsafe {
        hyper::mmuext_op(&[MmuextOp {
            cmd,
            arg1: mfn as Long,
            ..MmuextOp::default()
        }])
    }
}

/// Makes a read-only page whose entry 0 is `entry(its own frame)`; returns its frame.
fn page_with(entry: impl Fn(u64) -> u64) -> u64 {
    let page = allocate_page().expect("a page");
    let address = page.expose_provenance() as u64;
    let mfn = mfn_of(pfn_of(address)).expect("the domain's");
    // SAFETY: the page belongs to this function.
    unsafe {
        page.cast::<u64>().write(entry(mfn));
        paging::make_read_only(address).expect("read-only");
    }
    mfn
}

fn main() {
    let mut attack = Attack::new("hostile-selfref", "build tables that contain themselves");
    for (level, cmd) in (1..).zip(PINS).take(LEVELS) {
        let mfn = page_with(|mfn| (mfn << 12) | TABLE_FLAGS);
        println_level(level);
        attack.refused("a table with itself in it, writable", pin(cmd, mfn));

        // A table that names itself read-only is a linear page table, which may be supported. Then it must also be
        // possible to remove it.
        let mfn = page_with(|mfn| (mfn << 12) | PRESENT | USER | ACCESSED);
        match pin(cmd, mfn) {
            Ok(_) => {
                let unpinned = pin(MMUEXT_UNPIN_TABLE, mfn);
                attack.holds("a read-only loop is let in and out", unpinned.is_ok());
            }
            error => attack.refused("a table with itself in it, read-only", error),
        }

        // Two tables of one level in a ring. An L1 table is left out, since its entries name data.
        if level == 1 {
            continue;
        }
        let first = page_with(|_| 0);
        let second = page_with(|_| (first << 12) | TABLE_FLAGS);
        let link = MmuUpdate {
            ptr: first << 12,
            val: (second << 12) | TABLE_FLAGS,
        };
        // SAFETY: as in `pin`.
        let linked = unsafe { paging::set_entries(&[link], DOMID_SELF) };
        attack.any("two tables linked in a ring, as data", linked);
        attack.refused("the ring as a table", pin(cmd, second));
    }

    // The running root: tries to get a writable mapping of itself.
    let root = mfn_of(pfn_of(from_long(start_info().pt_base))).expect("the domain's");
    for slot in [1, 2, 3, 255, 256, 260, 271, 300] {
        let link = MmuUpdate {
            ptr: (root << 12) + slot * 8,
            val: (root << 12) | TABLE_FLAGS,
        };
        // SAFETY: must be refused.
        let linked = unsafe { paging::set_entries(&[link], DOMID_SELF) };
        attack.refused("the running root in itself, writable", linked);
    }
    attack.finish();
}

fn println_level(level: u32) {
    xenlike_rt::println!(" level {level}:");
}
