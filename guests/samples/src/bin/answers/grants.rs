//! Grant references before any table is set up: those of the first frame are valid.

use xenlike_rt::abi::grant_table::{
    GNTMAP_HOST_MAP, GNTST_BAD_GNTREF, GNTST_GENERAL_ERROR, GNTTABOP_MAP_GRANT_REF,
    GNTTABOP_QUERY_SIZE, GnttabMapGrantRef, GnttabQuerySize,
};
use xenlike_rt::abi::xen::DOMID_SELF;
use xenlike_rt::hyper;
use zerocopy::FromZeros;

use crate::check;

/// Number of references in a frame.
const FRAME: u32 = 512;
/// A reference beyond all tables.
const NOWHERE: u64 = 8;

fn map(reference: u32) -> i16 {
    let mut requests = [GnttabMapGrantRef {
        host_addr: NOWHERE,
        flags: GNTMAP_HOST_MAP,
        ref_: reference,
        ..GnttabMapGrantRef::new_zeroed()
    }];
    let called = hyper::grant_table_op(GNTTABOP_MAP_GRANT_REF, &mut requests);
    assert!(called.is_ok(), "map_grant_ref: {called:?}");
    requests[0].status
}

pub fn run() {
    let mut size = [GnttabQuerySize {
        dom: DOMID_SELF,
        ..GnttabQuerySize::new_zeroed()
    }];
    let asked = hyper::grant_table_op(GNTTABOP_QUERY_SIZE, &mut size);
    check(
        "a table of one frame",
        asked == Ok(0) && size[0].nr_frames == 1,
    );
    check(
        "its last reference has no entry",
        map(FRAME - 1) == GNTST_GENERAL_ERROR,
    );
    check(
        "the next is beyond the table",
        map(FRAME) == GNTST_BAD_GNTREF,
    );
    check("the last of all, too", map(u32::MAX) == GNTST_BAD_GNTREF);
}
