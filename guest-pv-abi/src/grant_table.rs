//! Grant tables: their entries, the sub-operations, and status codes.
//!
//! Source: Xen's public header `grant_table.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;
use crate::form::two_widths;
use crate::layout::{layout, numbers};

numbers! { NUMBERS_U32, "grant_table.h", u32;
    GNTTAB_NR_RESERVED_ENTRIES = 8, "GNTTAB_NR_RESERVED_ENTRIES";
    GNTTAB_RESERVED_CONSOLE = 0, "GNTTAB_RESERVED_CONSOLE";
    GNTTAB_RESERVED_XENSTORE = 1, "GNTTAB_RESERVED_XENSTORE";
    GNTTABOP_MAP_GRANT_REF = 0, "GNTTABOP_map_grant_ref";
    GNTTABOP_UNMAP_GRANT_REF = 1, "GNTTABOP_unmap_grant_ref";
    GNTTABOP_SETUP_TABLE = 2, "GNTTABOP_setup_table";
    GNTTABOP_DUMP_TABLE = 3, "GNTTABOP_dump_table";
    GNTTABOP_TRANSFER = 4, "GNTTABOP_transfer";
    GNTTABOP_COPY = 5, "GNTTABOP_copy";
    GNTTABOP_QUERY_SIZE = 6, "GNTTABOP_query_size";
    GNTTABOP_UNMAP_AND_REPLACE = 7, "GNTTABOP_unmap_and_replace";
    GNTTABOP_SET_VERSION = 8, "GNTTABOP_set_version";
    GNTTABOP_GET_STATUS_FRAMES = 9, "GNTTABOP_get_status_frames";
    GNTTABOP_GET_VERSION = 10, "GNTTABOP_get_version";
    GNTTABOP_SWAP_GRANT_REF = 11, "GNTTABOP_swap_grant_ref";
    GNTTABOP_CACHE_FLUSH = 12, "GNTTABOP_cache_flush";
    GNTTAB_CACHE_CLEAN = 1, "GNTTAB_CACHE_CLEAN";
    GNTTAB_CACHE_INVAL = 2, "GNTTAB_CACHE_INVAL";
    GNTTAB_CACHE_SOURCE_GREF = 0x8000_0000, "GNTTAB_CACHE_SOURCE_GREF";
    GNTMAP_DEVICE_MAP = 1, "GNTMAP_device_map";
    GNTMAP_HOST_MAP = 2, "GNTMAP_host_map";
    GNTMAP_READONLY = 4, "GNTMAP_readonly";
    GNTMAP_APPLICATION_MAP = 8, "GNTMAP_application_map";
    GNTMAP_CONTAINS_PTE = 16, "GNTMAP_contains_pte";
    GNTMAP_GUEST_AVAIL_MASK = 0xffff_0000, "GNTMAP_guest_avail_mask";
}

numbers! { NUMBERS_U16, "grant_table.h", u16;
    GTF_INVALID = 0, "GTF_invalid";
    GTF_PERMIT_ACCESS = 1, "GTF_permit_access";
    GTF_ACCEPT_TRANSFER = 2, "GTF_accept_transfer";
    GTF_TRANSITIVE = 3, "GTF_transitive";
    GTF_TYPE_MASK = 3, "GTF_type_mask";
    GTF_READONLY = 4, "GTF_readonly";
    GTF_READING = 8, "GTF_reading";
    GTF_WRITING = 16, "GTF_writing";
    GTF_PWT = 32, "GTF_PWT";
    GTF_PCD = 64, "GTF_PCD";
    GTF_PAT = 128, "GTF_PAT";
    GTF_SUB_PAGE = 0x100, "GTF_sub_page";
    GTF_TRANSFER_COMMITTED = 4, "GTF_transfer_committed";
    GTF_TRANSFER_COMPLETED = 8, "GTF_transfer_completed";
    GNTCOPY_SOURCE_GREF = 1, "GNTCOPY_source_gref";
    GNTCOPY_DEST_GREF = 2, "GNTCOPY_dest_gref";
}

numbers! { NUMBERS_I16, "grant_table.h", i16;
    GNTST_OKAY = 0, "GNTST_okay";
    GNTST_GENERAL_ERROR = -1, "GNTST_general_error";
    GNTST_BAD_DOMAIN = -2, "GNTST_bad_domain";
    GNTST_BAD_GNTREF = -3, "GNTST_bad_gntref";
    GNTST_BAD_HANDLE = -4, "GNTST_bad_handle";
    GNTST_BAD_VIRT_ADDR = -5, "GNTST_bad_virt_addr";
    GNTST_BAD_DEV_ADDR = -6, "GNTST_bad_dev_addr";
    GNTST_NO_DEVICE_SPACE = -7, "GNTST_no_device_space";
    GNTST_PERMISSION_DENIED = -8, "GNTST_permission_denied";
    GNTST_BAD_PAGE = -9, "GNTST_bad_page";
    GNTST_BAD_COPY_ARG = -10, "GNTST_bad_copy_arg";
    GNTST_ADDRESS_TOO_BIG = -11, "GNTST_address_too_big";
    GNTST_EAGAIN = -12, "GNTST_eagain";
    GNTST_NO_SPACE = -13, "GNTST_no_space";
}

/// A version 1 grant entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GrantEntryV1 {
    /// A combination of `GTF_*` flags.
    pub flags: u16,
    /// The domain that may use the grant.
    pub domid: u16,
    /// Machine frame of the page (PV).
    pub frame: u32,
}

layout! { GrantEntryV1 = "struct grant_entry_v1", 8;
    flags 0, domid 2, frame 4
}

/// A version 2 grant entry. A 16-bit status word elsewhere shows its uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GrantEntryV2 {
    /// A combination of `GTF_*` flags.
    pub flags: u16,
    /// The domain that may use the grant.
    pub domid: u16,
    /// With `GTF_SUB_PAGE`: offset of the first byte; with `GTF_TRANSITIVE`: the domain that granted the
    /// page to this one.
    pub first: u16,
    /// With `GTF_SUB_PAGE`: number of bytes.
    pub length: u16,
    /// Machine frame (PV); with `GTF_TRANSITIVE`: the reference in the other domain's table.
    pub frame: u64,
}

layout! { GrantEntryV2 = "union grant_entry_v2", 16;
    flags 0 "hdr.flags", domid 2 "hdr.domid", first 4 "sub_page.page_off", length 6 "sub_page.length",
    frame 8 "sub_page.frame"
}

/// The argument of `GNTTABOP_MAP_GRANT_REF`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabMapGrantRef {
    /// Virtual address of the mapping; with `GNTMAP_CONTAINS_PTE` the machine address of the page-table entry.
    pub host_addr: u64,
    /// A combination of `GNTMAP_*` flags.
    pub flags: u32,
    pub ref_: u32,
    pub dom: u16,
    /// Out: one of `GNTST_*`.
    pub status: i16,
    /// Out: the handle by which to unmap.
    pub handle: u32,
    /// Out: machine address for devices.
    pub dev_bus_addr: u64,
}

layout! { GnttabMapGrantRef = "struct gnttab_map_grant_ref", 32;
    host_addr 0, flags 8, ref_ 12 "ref", dom 16, status 18, handle 20, dev_bus_addr 24
}

/// The argument of `GNTTABOP_UNMAP_GRANT_REF`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabUnmapGrantRef {
    pub host_addr: u64,
    pub dev_bus_addr: u64,
    pub handle: u32,
    /// Out: one of `GNTST_*`.
    pub status: i16,
    #[doc(hidden)]
    pub _gap0: [u8; 2],
}

layout! { GnttabUnmapGrantRef = "struct gnttab_unmap_grant_ref", 24;
    host_addr 0, dev_bus_addr 8, handle 16, status 20
}

two_widths! {
    /// The argument of `GNTTABOP_SETUP_TABLE`.
    pub struct GnttabSetupTable {
        pub dom: u16,
        #[doc(hidden)]
        pub _gap0: [u8; 2],
        pub nr_frames: u32,
        /// Out: one of `GNTST_*`.
        pub status: i16,
        #[doc(hidden)]
        pub _gap1: [u8; 6] => [u8; 2],
        /// Pointer to an array. Out: the frame numbers of the table.
        pub frame_list: GuestHandle,
    }
}

layout! { GnttabSetupTable = "struct gnttab_setup_table", 24, narrow 16;
    dom 0, nr_frames 4, status 8, frame_list 16
}

/// The argument of `GNTTABOP_DUMP_TABLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabDumpTable {
    pub dom: u16,
    /// Out: one of `GNTST_*`.
    pub status: i16,
}

layout! { GnttabDumpTable = "struct gnttab_dump_table", 4;
    dom 0, status 2
}

two_widths! {
    /// The argument of `GNTTABOP_TRANSFER`.
    pub struct GnttabTransfer {
        pub mfn: u64 => u32,
        pub domid: u16,
        #[doc(hidden)]
        pub _gap0: [u8; 2],
        pub ref_: u32,
        /// Out: one of `GNTST_*`.
        pub status: i16,
        #[doc(hidden)]
        pub _gap1: [u8; 6] => [u8; 2],
    }
}

layout! { GnttabTransfer = "struct gnttab_transfer", 24, narrow 16;
    mfn 0, domid 8, ref_ 12 "ref", status 16
}

two_widths! {
    /// The source or the destination of a `GnttabCopy`.
    pub struct GnttabCopyPtr {
        /// A grant reference (low half) or a frame number.
        pub u: u64 => u32,
        pub domid: u16,
        pub offset: u16,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
    }
}

layout! { GnttabCopyPtr = "struct gnttab_copy_ptr", 16, narrow 8;
    u 0 "u.gmfn", domid 8, offset 10
}

two_widths! {
    /// The argument of `GNTTABOP_COPY`.
    pub struct GnttabCopy {
        pub source: GnttabCopyPtr,
        pub dest: GnttabCopyPtr,
        pub len: u16,
        /// A combination of `GNTCOPY_*` flags.
        pub flags: u16,
        /// Out: one of `GNTST_*`.
        pub status: i16,
        #[doc(hidden)]
        pub _gap0: [u8; 2],
    }
}

layout! { GnttabCopy = "struct gnttab_copy", 40, narrow 24;
    source 0, dest 16, len 32, flags 34, status 36
}

/// The argument of `GNTTABOP_QUERY_SIZE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabQuerySize {
    pub dom: u16,
    #[doc(hidden)]
    pub _gap0: [u8; 2],
    /// Out: number of frames that the table has.
    pub nr_frames: u32,
    /// Out: number of frames that the table may have.
    pub max_nr_frames: u32,
    /// Out: one of `GNTST_*`.
    pub status: i16,
    #[doc(hidden)]
    pub _gap1: [u8; 2],
}

layout! { GnttabQuerySize = "struct gnttab_query_size", 16;
    dom 0, nr_frames 4, max_nr_frames 8, status 12
}

/// The argument of `GNTTABOP_UNMAP_AND_REPLACE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabUnmapAndReplace {
    pub host_addr: u64,
    pub new_addr: u64,
    pub handle: u32,
    /// Out: one of `GNTST_*`.
    pub status: i16,
    #[doc(hidden)]
    pub _gap0: [u8; 2],
}

layout! { GnttabUnmapAndReplace = "struct gnttab_unmap_and_replace", 24;
    host_addr 0, new_addr 8, handle 16, status 20
}

/// The argument of `GNTTABOP_SET_VERSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabSetVersion {
    /// In: the wanted version; out: the version in use.
    pub version: u32,
}

layout! { GnttabSetVersion = "struct gnttab_set_version", 4;
    version 0
}

two_widths! {
    /// The argument of `GNTTABOP_GET_STATUS_FRAMES`.
    pub struct GnttabGetStatusFrames {
        pub nr_frames: u32,
        pub dom: u16,
        /// Out: one of `GNTST_*`.
        pub status: i16,
        pub frame_list: GuestHandle,
    }
}

layout! { GnttabGetStatusFrames = "struct gnttab_get_status_frames", 16, narrow 12;
    nr_frames 0, dom 4, status 6, frame_list 8
}

/// The argument of `GNTTABOP_GET_VERSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabGetVersion {
    pub dom: u16,
    pub pad: u16,
    /// Out: the version in use, 1 or 2.
    pub version: u32,
}

layout! { GnttabGetVersion = "struct gnttab_get_version", 8;
    dom 0, pad 2, version 4
}

/// The argument of `GNTTABOP_SWAP_GRANT_REF`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabSwapGrantRef {
    pub ref_a: u32,
    pub ref_b: u32,
    /// Out: one of `GNTST_*`.
    pub status: i16,
    #[doc(hidden)]
    pub _gap0: [u8; 2],
}

layout! { GnttabSwapGrantRef = "struct gnttab_swap_grant_ref", 12;
    ref_a 0, ref_b 4, status 8
}

/// The argument of `GNTTABOP_CACHE_FLUSH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GnttabCacheFlush {
    pub a: u64,
    pub offset: u16,
    pub length: u16,
    /// The sub-operation, one of `GNTTAB_CACHE_*`.
    pub op: u32,
}

layout! { GnttabCacheFlush = "struct gnttab_cache_flush", 16;
    a 0 "a.dev_bus_addr", offset 8, length 10, op 12
}
