//! Attack: get a writable mapping of a page table, by hypercall, by a store, or through a page that is mapped
//! writable when it becomes a table.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "asks for mappings that must be refused")]

use samples::{Attack, LEVELS};
use xenlike_rt::abi::Long;
use xenlike_rt::abi::xen::{
    DOMID_SELF, MMUEXT_PIN_L1_TABLE, MMUEXT_UNPIN_TABLE, MmuUpdate, MmuextOp, UVMF_INVLPG,
};
use xenlike_rt::memory::{allocate_page, direct, mfn_of, pfn_of, pfn_of_mfn};
use xenlike_rt::paging::{self, Access, FRAME_MASK, RAM_FLAGS, TABLE_FLAGS, Window};
use xenlike_rt::{from_long, hyper, start_info, traps};

xenlike_rt::entry!(main);

/// The tables of an address of the image, the root first, by their addresses in the direct mapping.
fn tables() -> [u64; LEVELS] {
    let mut tables = [from_long(start_info().pt_base); LEVELS];
    for n in 1..LEVELS {
        let index = (direct(0) >> (12 + 9 * (LEVELS - n))) & 511;
        let slot = (tables[n - 1] + index * 8) as usize;
        // SAFETY: the builder's tables are mapped read-only.
        let entry = unsafe { core::ptr::with_exposed_provenance::<u64>(slot).read_volatile() };
        tables[n] = direct(pfn_of_mfn((entry & FRAME_MASK) >> 12));
    }
    tables
}

fn by_hypercall(attack: &mut Attack) {
    for table in tables() {
        let mfn = mfn_of(pfn_of(table)).expect("the domain's");
        // SAFETY: must be refused.
        let outcome =
            unsafe { hyper::update_va_mapping(table, (mfn << 12) | RAM_FLAGS, UVMF_INVLPG) };
        attack.refused("its own mapping made writable", outcome);
        let outcome = Window::map(&[mfn], DOMID_SELF, Access::ReadWrite);
        attack.refused(
            "another, writable mapping",
            outcome.map(|window| window.address()),
        );
    }
}

fn by_store(attack: &mut Attack) {
    // Entry 0 of the image's L1 table maps frame 0. Tries to make it map the table itself, writable.
    let table = tables()[LEVELS - 1];
    let slot = core::ptr::with_exposed_provenance_mut::<u64>(table as usize);
    let mfn = mfn_of(pfn_of(table)).expect("the domain's");
    // SAFETY: must fault.
    let stored = traps::attempt(|| unsafe { slot.write_volatile((mfn << 12) | RAM_FLAGS) });
    attack.holds("a store of such an entry faults", stored.is_err());
    for root in &tables()[..LEVELS - 1] {
        let slot = core::ptr::with_exposed_provenance_mut::<u64>(*root as usize + 8 * 100);
        // SAFETY: must fault.
        let stored = traps::attempt(|| unsafe { slot.write_volatile((mfn << 12) | TABLE_FLAGS) });
        attack.holds("a store into a higher table faults", stored.is_err());
    }
}

fn by_writable_page(attack: &mut Attack) {
    let page = allocate_page().expect("a page");
    let address = page.expose_provenance() as u64;
    let mfn = mfn_of(pfn_of(address)).expect("the domain's");
    let pin = |cmd| MmuextOp {
        cmd,
        arg1: mfn as Long,
        ..MmuextOp::default()
    };
    // SAFETY: must be refused, since the page is mapped writable.
    let outcome = unsafe { hyper::mmuext_op(&[pin(MMUEXT_PIN_L1_TABLE)]) };
    attack.refused("a writable page pinned as a table", outcome);

    let l2 = tables()[LEVELS - 2];
    let slot = (mfn_of(pfn_of(l2)).expect("the domain's") << 12) + 8 * 400;
    let update = MmuUpdate {
        ptr: slot,
        val: (mfn << 12) | TABLE_FLAGS,
    };
    // SAFETY: as above.
    let outcome = unsafe { paging::set_entries(&[update], DOMID_SELF) };
    attack.refused("a writable page linked as a table", outcome);

    // A table can't be mapped writable until it is no longer a table. SAFETY: the page belongs to this guest and is
    // only used here.
    let pinned = unsafe {
        paging::make_read_only(address).and_then(|()| hyper::mmuext_op(&[pin(MMUEXT_PIN_L1_TABLE)]))
    };
    attack.holds("a read-only page can be pinned", pinned.is_ok());
    attack.refused(
        "a pinned table made writable",
        paging::make_writable(address),
    );
    // SAFETY: as above.
    let unpinned = unsafe { hyper::mmuext_op(&[pin(MMUEXT_UNPIN_TABLE)]) };
    attack.holds("it can be unpinned", unpinned.is_ok());
    attack.holds(
        "and is writable again",
        paging::make_writable(address).is_ok(),
    );
}

fn main() {
    let mut attack = Attack::new("hostile-pagetable", "map a page table writable");
    by_hypercall(&mut attack);
    by_store(&mut attack);
    by_writable_page(&mut attack);
    attack.finish();
}
