//! Rows about whole page tables: pinning, unpinning, changing the base pointer.

#![expect(unsafe_code, reason = "makes page tables")]

use xenlike_rt::abi::Long;
use xenlike_rt::abi::xen::{MMUEXT_NEW_BASEPTR, MMUEXT_PIN_L1_TABLE, MMUEXT_UNPIN_TABLE, MmuextOp};
use xenlike_rt::{from_long, hyper, memory, paging, start_info};

use crate::mappings::Target;
use crate::{meter, width};

/// Number of entries in a table.
const ENTRIES: usize = 512;

/// Measures all rows of this module.
pub fn measure() {
    let leaf = table(|_| Target::find().writable());
    meter::in_turn(
        ["pin_l1", "unpin_l1"],
        50,
        || extended(MMUEXT_PIN_L1_TABLE, leaf),
        || extended(MMUEXT_UNPIN_TABLE, leaf),
    );
    let tree = width::tree(leaf);
    meter::in_turn(
        ["pin_tree", "unpin_tree"],
        50,
        || extended(width::PIN_ROOT, tree),
        || extended(MMUEXT_UNPIN_TABLE, tree),
    );
    base_pointer();
}

/// Switches between two address spaces with the same mappings.
fn base_pointer() {
    let root = from_long(start_info().pt_base);
    let current = memory::mfn_of(memory::pfn_of(root)).expect("the root's frame");
    let other = width::copy_of_root();
    extended(width::PIN_ROOT, other);
    let mut there = false;
    meter::measure("new_baseptr", || {
        there = !there;
        extended(MMUEXT_NEW_BASEPTR, if there { other } else { current });
    });
    extended(MMUEXT_NEW_BASEPTR, current);
    extended(MMUEXT_UNPIN_TABLE, other);
}

/// Makes a page ready to become a table; returns its frame.
pub fn table(entry: impl Fn(usize) -> u64) -> u64 {
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
        arg1: frame as Long,
        ..MmuextOp::default()
    };
    // SAFETY: the tables above map pages of this guest, and both roots map the kernel alike.
    unsafe { hyper::mmuext_op(&[request]) }.expect("done");
}
