//! Attack: store entries that are not present but name frames in page tables, by hypercall, by a store, and in a page
//! that becomes a table. On a CPU with L1 terminal fault, such an entry lets the guest read the frame owner's data
//! from the cache. The option `pv-l1tf` makes the hypervisor treat any CPU as vulnerable.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "asks for entries that must be refused")]

use samples::Attack;
use xenlike_rt::abi::xen::{
    DOMID_SELF, MMUEXT_PIN_L1_TABLE, MMUEXT_UNPIN_TABLE, MmuUpdate, MmuextOp,
};
use xenlike_rt::abi::{Long, errno};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::paging::{self, FRAME_MASK, Window};
use xenlike_rt::{hyper, traps};

xenlike_rt::entry!(main);

/// The address bits of some other frame, and the inverted form that a careful kernel stores.
const SECRET: u64 = 0x12_3000;
const INVERTED: u64 = !SECRET & FRAME_MASK;
/// A software bit, so that the entry isn't empty.
const MARK: u64 = 1 << 9;

fn by_hypercall(attack: &mut Attack, slot: u64) {
    let set = |val| {
        // SAFETY: nothing is mapped there.
        unsafe { paging::set_entries(&[MmuUpdate { ptr: slot, val }], DOMID_SELF) }
    };
    attack.refused_with(
        "an entry that names a frame",
        set(SECRET | MARK),
        &[errno::EINVAL],
    );
    attack.holds("an inverted one passes", set(INVERTED | MARK).is_ok());
    attack.holds("one without address passes", set(MARK).is_ok());
    attack.holds("an empty one passes", set(0).is_ok());
}

fn by_store(attack: &mut Attack, window: &Window) {
    let at = window.address();
    let l1 = paging::entry_machine_address(at).expect("a table for it");
    let frame = l1 >> 12;
    let table = Window::map(&[frame], DOMID_SELF, paging::Access::ReadOnly).expect("a look at it");
    let slot = table
        .as_ptr()
        .wrapping_add((l1 & 0xfff) as usize)
        .cast::<u64>();
    // SAFETY: must fault; the entry maps nothing.
    let leaks = traps::attempt(|| unsafe { slot.write_volatile(SECRET | MARK) });
    attack.holds("a store of one that names a frame faults", leaks.is_err());
    // SAFETY: as above.
    let passes = traps::attempt(|| unsafe { slot.write_volatile(INVERTED | MARK) });
    attack.holds("a store of an inverted one is done", passes.is_ok());
    // SAFETY: the table is mapped, aligned.
    let now = unsafe { slot.read_volatile() };
    attack.holds("and is what stands there", now == INVERTED | MARK);
    // SAFETY: as above.
    let cleared = traps::attempt(|| unsafe { slot.write_volatile(0) });
    attack.holds("it can be emptied", cleared.is_ok());
}

fn by_promotion(attack: &mut Attack) {
    let page = allocate_page().expect("a page");
    let address = page.expose_provenance() as u64;
    let mfn = mfn_of(pfn_of(address)).expect("the domain's");
    let op = |cmd| {
        let op = MmuextOp {
            cmd,
            arg1: mfn as Long,
            ..MmuextOp::default()
        };
        // SAFETY: the page is ours and only used here.
        unsafe { hyper::mmuext_op(&[op]) }
    };
    for (entry, leaks) in [(SECRET | MARK, true), (INVERTED | MARK, false)] {
        // SAFETY: as above.
        unsafe { page.cast::<u64>().add(17).write_volatile(entry) };
        // SAFETY: as above; nothing writes to it until it is writable again.
        unsafe { paging::make_read_only(address) }.expect("read-only");
        let outcome = op(MMUEXT_PIN_L1_TABLE);
        if leaks {
            attack.refused_with("a table with such an entry", outcome, &[errno::EINVAL]);
        } else {
            attack.holds("a table with an inverted one", outcome.is_ok());
            attack.holds("is unpinned", op(MMUEXT_UNPIN_TABLE).is_ok());
        }
        paging::make_writable(address).expect("writable");
    }
}

fn main() {
    let mut attack = Attack::new("hostile-absent", "read by entries that are not present");
    let window = Window::reserve(1).expect("room");
    window.prepare().expect("a table");
    let slot = paging::entry_machine_address(window.address()).expect("a table for it");
    by_hypercall(&mut attack, slot);
    by_store(&mut attack, &window);
    by_promotion(&mut attack);
    attack.finish();
}
