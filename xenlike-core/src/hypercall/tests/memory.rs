//! Tests of memory_op.

use guest_pv_abi::GuestHandle;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::hypercall::MEMORY_OP;
use guest_pv_abi::memory::*;
use zerocopy::FromZeros;

use super::guest::Guest;
use crate::kit::{DomId, Mfn};
use crate::mm::heap::short;
use crate::mm::m2p;

/// A request for one extent, with a list of one element at `list`.
fn extent(list: u64, order: u32) -> MemoryReservation {
    let mut extent = MemoryReservation::new_zeroed();
    (extent.extent_start, extent.nr_extents) = (GuestHandle(list), 1);
    (extent.extent_order, extent.domid) = (order, DomId::SELF.0);
    extent
}

/// Exchanges a frame for another one.
fn exchange(guest: &Guest, frame: Mfn) -> Result<Mfn, Errno> {
    let (given, wanted) = (guest.at + 0x800, guest.at + 0x900);
    guest.write(given, &frame.0);
    guest.write(wanted, &7_u64);
    let mut op = MemoryExchange::new_zeroed();
    (op.in_, op.out) = (extent(given, 0), extent(wanted, 0));
    guest.with(MEMORY_OP, XENMEM_EXCHANGE, &mut op)?;
    Ok(Mfn(guest.read(wanted)))
}

#[test]
fn an_exchange_leaves_the_hypervisor_its_memory() {
    let guest = Guest::new();
    let frame = guest.frame();
    let refused = short::of_memory(|| exchange(&guest, frame));
    assert_eq!(refused, Err(errno::ENOMEM));
    // The domain still owns the frame.
    let other = exchange(&guest, frame).unwrap();
    assert_ne!(other, frame);
    assert_eq!(guest.dom.pages.total(), 1);
}

/// A populate_physmap that stops halfway has allocated the frames it returned to the guest, and no others.
#[test]
fn a_populate_uses_up_of_a_claim_what_it_gives() {
    let guest = Guest::new();
    guest.dom.pages.claim(20, 1 << 20).unwrap();
    let list = guest.at + 0x800;
    for n in 0..12 {
        guest.write(list + n * 8, &(0x40 + n));
    }
    let mut op = extent(list, 0);
    op.nr_extents = 12;
    assert_eq!(
        guest.with(MEMORY_OP, XENMEM_POPULATE_PHYSMAP, &mut op),
        Ok(12)
    );
    assert_eq!(
        (guest.dom.pages.total(), guest.dom.pages.claim_left()),
        (12, 8)
    );
    let last = Mfn(guest.read(list + 11 * 8));
    assert_eq!(m2p::get(last).map(|pfn| pfn.0), Some(0x40 + 11));
}
