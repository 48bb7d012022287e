//! Rows about grants. The domain grants to itself, for which the hypervisor does the same work
//! as between two domains.

use alloc::vec;
use alloc::vec::Vec;

use xenlike_rt::abi::Long;
use xenlike_rt::abi::grant_table::{
    GNTCOPY_SOURCE_GREF, GNTMAP_HOST_MAP, GNTST_OKAY, GNTTABOP_MAP_GRANT_REF,
    GNTTABOP_UNMAP_GRANT_REF, GnttabCopy, GnttabMapGrantRef, GnttabUnmapGrantRef,
};
use xenlike_rt::abi::xen::DOMID_SELF;
use xenlike_rt::paging::{Access, Window};
use xenlike_rt::{events, grants, hyper, memory};

use crate::meter;

/// Measures all rows of this module.
pub fn measure() {
    let own = events::own_domain().expect("the own id");
    let page = memory::allocate_page().expect("a page");
    let reference = grants::give(own, page, Access::ReadWrite).expect("a grant");
    mapping(own, reference);
    copies(own, reference);
}

fn mapping(own: u16, reference: u32) {
    let window = Window::reserve(1).expect("an address");
    window.prepare().expect("its tables");
    let mut map = [GnttabMapGrantRef {
        host_addr: window.address(),
        flags: GNTMAP_HOST_MAP,
        ref_: reference,
        dom: own,
        ..GnttabMapGrantRef::default()
    }];
    let handle = core::cell::Cell::new(0);
    meter::in_turn(
        ["grant_map", "grant_unmap"],
        200,
        || {
            hyper::grant_table_op(GNTTABOP_MAP_GRANT_REF, &mut map).expect("a map call");
            let answer = core::hint::black_box(&map)[0];
            assert!(answer.status == GNTST_OKAY, "map: {}", answer.status);
            handle.set(answer.handle);
        },
        || {
            let mut unmap = [GnttabUnmapGrantRef {
                host_addr: window.address(),
                handle: handle.get(),
                ..GnttabUnmapGrantRef::default()
            }];
            hyper::grant_table_op(GNTTABOP_UNMAP_GRANT_REF, &mut unmap).expect("an unmap call");
            let answer = core::hint::black_box(&unmap)[0];
            assert!(answer.status == GNTST_OKAY, "unmap: {}", answer.status);
        },
    );
}

fn copies(own: u16, reference: u32) {
    let page = memory::allocate_page().expect("a page");
    let target = memory::mfn_of(memory::pfn_of(page.addr() as u64)).expect("its frame");
    for (name, segments, bytes) in [
        ("grant_copy_64_bytes", 1, 64),
        ("grant_copy_4096_bytes", 1, 4096),
        ("grant_copy_16_segments", 16, 64),
    ] {
        let mut copy = GnttabCopy {
            flags: GNTCOPY_SOURCE_GREF,
            len: bytes,
            ..GnttabCopy::default()
        };
        copy.source.u = reference as Long;
        copy.source.domid = own;
        copy.dest.u = target as Long;
        copy.dest.domid = DOMID_SELF;
        let mut requests: Vec<GnttabCopy> = vec![copy; segments];
        meter::measure(name, || {
            grants::copy(&mut requests).expect("a copy");
        });
        let answer = core::hint::black_box(&requests)[0];
        assert!(answer.status == GNTST_OKAY, "{name}: {}", answer.status);
    }
}
