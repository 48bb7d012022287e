//! Rows about the guest's own GDT.

#![expect(
    unsafe_code,
    reason = "gives a page to the hypervisor as a descriptor table"
)]

use xenlike_rt::abi::{GuestHandle, Long, hypercall};
use xenlike_rt::{from_long, memory, paging};

use crate::calls::call;
use crate::{meter, width};

/// Number of descriptors in a frame.
const ENTRIES: u64 = 512;
/// Flat data, DPL 3, present, writable, accessed (AMD APM vol. 2 §4.8).
const DATA: u64 = 0x00cf_f300_0000_ffff;

/// Measures all rows of this module.
pub fn measure() {
    let page = memory::allocate_page().expect("a page");
    let address = page.expose_provenance() as u64;
    // SAFETY: the page is no longer written.
    unsafe { paging::make_read_only(address) }.expect("a read-only page");
    let frame = memory::mfn_of(memory::pfn_of(address)).expect("its frame");
    let frames = [frame as Long];
    let list = from_long(GuestHandle::of(&frames).0);
    meter::measure("set_gdt", || {
        call(hypercall::SET_GDT, [list, ENTRIES, 0, 0, 0]);
    });
    call(hypercall::SET_GDT, [list, ENTRIES, 0, 0, 0]);
    meter::measure("update_descriptor", || {
        width::update_descriptor((frame << 12) + 8, DATA);
    });
}
