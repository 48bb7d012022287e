//! Attack: have garbage accepted as page tables: random pages, entries with forbidden bits, frames that don't exist.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "asks for tables that must be refused")]

use samples::{Attack, HYPERVISOR, LEVELS, NARROW, Random};
use xenlike_rt::abi::Long;
use xenlike_rt::abi::xen::{
    MMUEXT_NEW_BASEPTR, MMUEXT_NEW_USER_BASEPTR, MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE,
    MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE, MMUEXT_SET_LDT, MMUEXT_UNPIN_TABLE, MmuextOp,
    UVMF_INVLPG,
};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::paging::{self, LARGE, PRESENT, RAM_FLAGS, USER};
use xenlike_rt::{args, from_long, hyper, start_info};

xenlike_rt::entry!(main);

/// Addresses and lengths of local descriptor tables that are refused. A 32-bit guest may name any page; using one that
/// isn't its own faults.
const BAD_TABLES: &[(u64, Long)] = if NARROW {
    &[(0x1001, 8), (0, 8193)]
} else {
    &[(0x1001, 8), (0, 8193), (HYPERVISOR, 8), (1 << 47, 8)]
};
/// The last entry that a table of each kind has.
const LATE: usize = if NARROW { 3 } else { 511 };

const PINS: [u32; 4] = [
    MMUEXT_PIN_L1_TABLE,
    MMUEXT_PIN_L2_TABLE,
    MMUEXT_PIN_L3_TABLE,
    MMUEXT_PIN_L4_TABLE,
];

fn request(cmd: u32, mfn: u64) -> Result<u64, xenlike_rt::abi::Errno> {
    // SAFETY: must be refused, or concerns a page without other users.
    unsafe {
        hyper::mmuext_op(&[MmuextOp {
            cmd,
            arg1: mfn as Long,
            ..MmuextOp::default()
        }])
    }
}

/// Fills a page, makes it read-only, and prints the answer of each kind of pin.
fn pin_page(attack: &mut Attack, what: &str, pins: &[u32], fill: &mut dyn FnMut(usize) -> u64) {
    let page = allocate_page().expect("a page");
    let address = page.expose_provenance() as u64;
    for index in 0..512 {
        // SAFETY: the page belongs to this guest and is writable.
        unsafe { page.cast::<u64>().add(index).write(fill(index)) };
    }
    // SAFETY: the page is only used here.
    unsafe { paging::make_read_only(address) }.expect("read-only");
    let mfn = mfn_of(pfn_of(address)).expect("the domain's");
    for pin in pins {
        attack.refused(what, request(*pin, mfn));
    }
    paging::make_writable(address).expect("writable");
    // SAFETY: the page has no other user.
    unsafe { xenlike_rt::memory::free_page(page) };
}

fn main() {
    let mut attack = Attack::new("hostile-pin", "have garbage taken for page tables");
    let mut random = Random::new(args::number("seed", 1));
    for _ in 0..8 {
        pin_page(&mut attack, "random bytes", &PINS, &mut |_| {
            random.next() | PRESENT
        });
    }
    let own = mfn_of(0).expect("the domain's") << 12;
    // Only the last entry is invalid, so the entries that were validated must be undone.
    let late = |bits: u64| move |index| if index == LATE { own | bits } else { 0 };
    let reserved = (1 << 51) | PRESENT | USER;
    pin_page(
        &mut attack,
        "a large page",
        &PINS[1..LEVELS.min(3)],
        &mut late(RAM_FLAGS | LARGE),
    );
    pin_page(
        &mut attack,
        "an address too high",
        &PINS,
        &mut late(reserved),
    );
    pin_page(
        &mut attack,
        "a data page as a table",
        &PINS[1..],
        &mut late(RAM_FLAGS),
    );
    pin_page(&mut attack, "frames that don't exist", &PINS, &mut |_| {
        0x000f_ffff_ffff_f067
    });

    let root = mfn_of(pfn_of(from_long(start_info().pt_base))).expect("the domain's");
    let pins = PINS[..LEVELS - 1]
        .iter()
        .chain(&[MMUEXT_NEW_BASEPTR, MMUEXT_NEW_USER_BASEPTR]);
    for cmd in pins {
        if ![MMUEXT_NEW_BASEPTR, MMUEXT_NEW_USER_BASEPTR].contains(cmd) {
            attack.refused("the root table as another kind", request(*cmd, root));
        }
        for mfn in [1 << 39 | 0x100, 1 << 52 | 0x100, u64::MAX, 0x100] {
            attack.refused("a frame that isn't ours", request(*cmd, mfn));
        }
        attack.refused("a data page", request(*cmd, own >> 12));
    }
    attack.refused(
        "unpinning what isn't pinned",
        request(MMUEXT_UNPIN_TABLE, own >> 12),
    );
    for &(address, entries) in BAD_TABLES {
        let op = MmuextOp {
            cmd: MMUEXT_SET_LDT,
            arg1: address as Long,
            arg2: entries,
            ..MmuextOp::default()
        };
        // SAFETY: must be refused.
        attack.refused("a bad LDT", unsafe { hyper::mmuext_op(&[op]) });
    }
    for flags in [RAM_FLAGS | LARGE, RAM_FLAGS | (1 << 51)] {
        let page = allocate_page().expect("a page").expose_provenance() as u64;
        // SAFETY: must be refused, and could only affect this page.
        let outcome = unsafe { hyper::update_va_mapping(page, own | flags, UVMF_INVLPG) };
        // In an L1 entry, bit 7 is the PAT bit: any answer is acceptable.
        if flags & LARGE == 0 {
            attack.refused("an entry with a bad address", outcome);
        }
    }
    attack.finish();
}
