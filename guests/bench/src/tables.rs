//! Rows about whole page tables: pinning, unpinning, changing the base pointer.

#![expect(unsafe_code, reason = "makes page tables")]

use xenlike_rt::abi::xen::{
    MMUEXT_NEW_BASEPTR, MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L4_TABLE, MMUEXT_UNPIN_TABLE, MmuextOp,
};
use xenlike_rt::paging::{self, TABLE_FLAGS};
use xenlike_rt::{hyper, memory, start_info};

use crate::mappings::Target;
use crate::meter;

/// Number of entries in a table.
const ENTRIES: usize = 512;
/// L4 slots that are reserved for the hypervisor (public header arch-x86/xen-x86_64.h).
const RESERVED: core::ops::Range<usize> = 256..272;

/// Measures all rows of this module.
pub fn measure() {
    let leaf = table(|_| Target::find().writable());
    meter::in_turn(
        ["pin_l1", "unpin_l1"],
        50,
        || extended(MMUEXT_PIN_L1_TABLE, leaf),
        || extended(MMUEXT_UNPIN_TABLE, leaf),
    );
    let chain = (0..3).fold(leaf, |below, _| table(|index| first(index, below)));
    meter::in_turn(
        ["pin_tree", "unpin_tree"],
        50,
        || extended(MMUEXT_PIN_L4_TABLE, chain),
        || extended(MMUEXT_UNPIN_TABLE, chain),
    );
    base_pointer();
}

/// A table with one entry, at index 0, that names the table in frame `below`.
fn first(index: usize, below: u64) -> u64 {
    if index == 0 {
        (below << 12) | TABLE_FLAGS
    } else {
        0
    }
}

/// Switches between two address spaces with the same mappings.
fn base_pointer() {
    let current = memory::mfn_of(memory::pfn_of(start_info().pt_base)).expect("the root's frame");
    let root = core::ptr::with_exposed_provenance::<u64>(start_info().pt_base as usize);
    let other = table(|index| {
        // SAFETY: an entry of this domain's root table, which stays mapped read-only.
        let entry = unsafe { root.add(index).read_volatile() };
        if RESERVED.contains(&index) { 0 } else { entry }
    });
    extended(MMUEXT_PIN_L4_TABLE, other);
    let mut there = false;
    meter::measure("new_baseptr", || {
        there = !there;
        extended(MMUEXT_NEW_BASEPTR, if there { other } else { current });
    });
    extended(MMUEXT_NEW_BASEPTR, current);
    extended(MMUEXT_UNPIN_TABLE, other);
}

/// Makes a page ready to become a table; returns its frame.
fn table(entry: impl Fn(usize) -> u64) -> u64 {
    let page = memory::allocate_page().expect("a page");
    for index in 0..ENTRIES {
        // SAFETY: the page belongs to this function and isn't a table yet.
        unsafe { page.cast::<u64>().add(index).write(entry(index)) };
    }
    let address = page.expose_provenance() as u64;
    // SAFETY: the page is no longer written.
    unsafe { paging::make_read_only(address) }.expect("a read-only page");
    memory::mfn_of(memory::pfn_of(address)).expect("its frame")
}

fn extended(cmd: u32, frame: u64) {
    let request = MmuextOp {
        cmd,
        arg1: frame,
        ..MmuextOp::default()
    };
    // SAFETY: the tables above map pages of this guest, and both roots map the kernel alike.
    unsafe { hyper::mmuext_op(&[request]) }.expect("done");
}
