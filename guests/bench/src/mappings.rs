//! Changes page-table entries, including those of one page, in each of the ways that the ABI has.

#![expect(unsafe_code, reason = "changes page tables")]

use core::sync::atomic::AtomicU8;

use xenlike_rt::abi::Long;
use xenlike_rt::abi::xen::{
    DOMID_SELF, MMUEXT_INVLPG_LOCAL, MMUEXT_TLB_FLUSH_LOCAL, MmuUpdate, MmuextOp, UVMF_INVLPG,
    UVMF_NONE,
};
use xenlike_rt::paging::{RAM_FLAGS, READ_ONLY_FLAGS};
use xenlike_rt::{hyper, memory, paging};

use crate::{meter, width};

/// A page whose mapping is changed.
#[repr(C, align(4096))]
struct Page([AtomicU8; 4096]);

static PAGE: Page = Page([const { AtomicU8::new(0) }; 4096]);

/// The page's entry, and the two values between which it alternates.
#[derive(Clone, Copy)]
pub struct Target {
    address: u64,
    /// Machine address of the entry.
    slot: u64,
    writable: u64,
    read_only: u64,
}

impl Target {
    /// Finds the entry of `PAGE`.
    pub fn find() -> Self {
        let address = core::ptr::from_ref(&PAGE).expose_provenance() as u64;
        let frame = memory::mfn_of(memory::pfn_of(address)).expect("the page's frame") << 12;
        Self {
            address,
            slot: paging::entry_machine_address(address).expect("the page's entry"),
            writable: frame | RAM_FLAGS,
            read_only: frame | READ_ONLY_FLAGS,
        }
    }

    /// The value that maps the page writable.
    pub fn writable(self) -> u64 {
        self.writable
    }

    fn value(self, writable: bool) -> u64 {
        if writable {
            self.writable
        } else {
            self.read_only
        }
    }

    fn update(self, entry: u64, flags: u64) {
        width::update_va_mapping(self.address, entry, flags);
    }
}

/// Measures all rows of this module.
pub fn measure() {
    let target = Target::find();
    by_address(target);
    by_list(target);
    by_store(target);
    target.update(target.writable, UVMF_INVLPG);
    flushes(target.address);
}

fn by_address(target: Target) {
    meter::measure("update_va_mapping", || {
        target.update(target.writable, UVMF_NONE);
    });
    meter::measure("update_va_mapping_invlpg", || {
        target.update(target.writable, UVMF_INVLPG);
    });
    let mut writable = true;
    meter::measure("update_va_mapping_toggle", || {
        writable = !writable;
        target.update(target.value(writable), UVMF_INVLPG);
    });
}

/// Lists of updates in which each entry is the opposite of the one before.
fn by_list(target: Target) {
    let mut writable = true;
    meter::measure("mmu_update_1", || {
        writable = !writable;
        let update = MmuUpdate {
            ptr: target.slot,
            val: target.value(writable),
        };
        // SAFETY: the entry maps `PAGE` to its own frame with either value, and the page is not written.
        let _ = unsafe { hyper::mmu_update(&[update], DOMID_SELF) };
    });
    for (name, count, loops) in [("mmu_update_32", 32, 1000), ("mmu_update_512", 512, 50)] {
        let updates: alloc::vec::Vec<MmuUpdate> = (0..count)
            .map(|n| MmuUpdate {
                ptr: target.slot,
                val: target.value(n % 2 != 0),
            })
            .collect();
        meter::repeat(name, loops, || {
            // SAFETY: as above.
            let _ = unsafe { hyper::mmu_update(&updates, DOMID_SELF) };
        });
    }
}

/// Stores to the page's entry itself, which the hypervisor traps and emulates.
fn by_store(target: Target) {
    let table = memory::direct(memory::pfn_of_mfn(target.slot >> 12)) + (target.slot & 0xfff);
    let entry = core::ptr::with_exposed_provenance_mut::<u64>(table as usize);
    let mut writable = true;
    meter::measure("trapped_pte_write", || {
        writable = !writable;
        // SAFETY: the entry maps `PAGE` to its own frame with either value.
        unsafe { width::store_entry(entry, target.value(writable)) };
    });
}

/// Flushes the page's address, or the whole TLB.
#[cfg(target_pointer_width = "64")]
pub fn flush(cmd: u32) {
    let request = MmuextOp {
        cmd,
        arg1: core::ptr::from_ref(&PAGE).addr() as u64,
        ..MmuextOp::default()
    };
    // SAFETY: a flush changes no mapping.
    unsafe { hyper::mmuext_op(&[request]) }.expect("a flush");
}

fn flushes(address: u64) {
    for (name, cmd) in [
        ("invlpg_local", MMUEXT_INVLPG_LOCAL),
        ("tlb_flush_local", MMUEXT_TLB_FLUSH_LOCAL),
    ] {
        let request = MmuextOp {
            cmd,
            arg1: address as Long,
            ..MmuextOp::default()
        };
        meter::measure(name, || {
            // SAFETY: a flush changes no mapping.
            let _ = unsafe { hyper::mmuext_op(&[request]) };
        });
    }
}
