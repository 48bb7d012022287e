//! xen_version: version and features of the hypervisor.
//!
//! Source: Xen's public header `version.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::form::two_widths;
use crate::layout::{layout, numbers};

numbers! { NUMBERS_U32, "version.h", u32;
    XENVER_VERSION = 0, "XENVER_version";
    XENVER_EXTRAVERSION = 1, "XENVER_extraversion";
    XENVER_COMPILE_INFO = 2, "XENVER_compile_info";
    XENVER_CAPABILITIES = 3, "XENVER_capabilities";
    XENVER_CHANGESET = 4, "XENVER_changeset";
    XENVER_PLATFORM_PARAMETERS = 5, "XENVER_platform_parameters";
    XENVER_GET_FEATURES = 6, "XENVER_get_features";
    XENVER_PAGESIZE = 7, "XENVER_pagesize";
    XENVER_GUEST_HANDLE = 8, "XENVER_guest_handle";
    XENVER_COMMANDLINE = 9, "XENVER_commandline";
    XENVER_BUILD_ID = 10, "XENVER_build_id";
    XENVER_EXTRAVERSION2 = 11, "XENVER_extraversion2";
    XENVER_CAPABILITIES2 = 12, "XENVER_capabilities2";
    XENVER_CHANGESET2 = 13, "XENVER_changeset2";
    XENVER_COMMANDLINE2 = 14, "XENVER_commandline2";
}

numbers! { NUMBERS_USIZE, "version.h", usize;
    XEN_EXTRAVERSION_LEN = 16, "XEN_EXTRAVERSION_LEN";
    XEN_CAPABILITIES_INFO_LEN = 0x400, "XEN_CAPABILITIES_INFO_LEN";
    XEN_CHANGESET_INFO_LEN = 64, "XEN_CHANGESET_INFO_LEN";
}

/// The argument of `XENVER_COMPILE_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CompileInfo {
    pub compiler: [u8; 64],
    pub compile_by: [u8; 16],
    pub compile_domain: [u8; 32],
    pub compile_date: [u8; 32],
}

layout! { CompileInfo = "struct xen_compile_info", 144;
    compiler 0, compile_by 64, compile_domain 80, compile_date 112
}

two_widths! {
    /// The argument of `XENVER_PLATFORM_PARAMETERS`.
    pub struct PlatformParameters {
        /// Start of the hypervisor's address range.
        pub virt_start: u64 => u32,
    }
}

layout! { PlatformParameters = "struct xen_platform_parameters", 8, narrow 4;
    virt_start 0
}

/// The argument of `XENVER_GET_FEATURES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FeatureInfo {
    /// In: which word of feature bits to return.
    pub submap_idx: u32,
    /// Out: 32 of the `XENFEAT_*` bits.
    pub submap: u32,
}

layout! { FeatureInfo = "struct xen_feature_info", 8;
    submap_idx 0, submap 4
}

/// Header of the buffers of `XENVER_BUILD_ID` and the `*2` forms; the bytes follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Varbuf {
    /// Size of the buffer in bytes; the call returns the bytes needed or written.
    pub len: u32,
}

layout! { Varbuf = "struct xen_varbuf", 4;
    len 0
}
