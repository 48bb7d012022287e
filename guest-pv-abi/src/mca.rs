//! mca: machine checks, for the hardware domain (`__HYPERVISOR_mca` is `__HYPERVISOR_arch_0`).
//!
//! Source: Xen's public header `arch-x86/xen-mca.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::form::{same_form, two_widths};
use crate::layout::{layout, numbers};
use crate::{GuestHandle, Payload};

numbers! { NUMBERS_U32, "arch-x86/xen-mca.h", u32;
    XEN_MCA_INTERFACE_VERSION = 0x01ec_c003, "XEN_MCA_INTERFACE_VERSION";
    XEN_MC_NONURGENT = 1, "XEN_MC_NONURGENT";
    XEN_MC_URGENT = 2, "XEN_MC_URGENT";
    XEN_MC_ACK = 4, "XEN_MC_ACK";
    XEN_MC_OK = 0, "XEN_MC_OK";
    XEN_MC_FETCHFAILED = 1, "XEN_MC_FETCHFAILED";
    XEN_MC_NODATA = 2, "XEN_MC_NODATA";
    XEN_MC_NOMATCH = 4, "XEN_MC_NOMATCH";
    XEN_MC_FETCH = 1, "XEN_MC_fetch";
    XEN_MC_NOTIFYDOMAIN = 2, "XEN_MC_notifydomain";
    XEN_MC_PHYSCPUINFO = 3, "XEN_MC_physcpuinfo";
    XEN_MC_MSRINJECT = 4, "XEN_MC_msrinject";
    XEN_MC_MCEINJECT = 5, "XEN_MC_mceinject";
    XEN_MC_INJECT_V2 = 6, "XEN_MC_inject_v2";
    VIRQ_MCA = crate::xen::VIRQ_ARCH_0, "VIRQ_MCA";
    MC_FLAG_CORRECTABLE = 1, "MC_FLAG_CORRECTABLE";
    MC_FLAG_UNCORRECTABLE = 2, "MC_FLAG_UNCORRECTABLE";
    MC_FLAG_POLLED = 8, "MC_FLAG_POLLED";
    MC_FLAG_RESET = 16, "MC_FLAG_RESET";
}

numbers! { NUMBERS_U16, "arch-x86/xen-mca.h", u16;
    MC_TYPE_GLOBAL = 0, "MC_TYPE_GLOBAL";
    MC_TYPE_BANK = 1, "MC_TYPE_BANK";
    XEN_MC_VCPUID_INVALID = 0xffff, "XEN_MC_VCPUID_INVALID";
}

/// The argument of mca: command and version, followed by the command's structure. Only the part that the commands
/// here need is declared; commands that inject errors use the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct McHead {
    pub cmd: u32,
    pub interface_version: u32,
    /// The structure of the command.
    pub u: Payload<3>,
}

same_form!(McHead);

two_widths! {
    /// The argument of `XEN_MC_FETCH`.
    pub struct McFetch {
        /// In: which errors to fetch. Out: `XEN_MC_OK` or another `XEN_MC_*` status.
        pub flags: u32,
        pub _pad0: u32,
        pub fetch_id: u64,
        pub data: GuestHandle,
    }
}

layout! { McFetch = "struct xen_mc_fetch", 24, narrow 20;
    flags 0, fetch_id 8, data 16
}

two_widths! {
    /// The argument of `XEN_MC_PHYSCPUINFO`.
    pub struct McPhyscpuinfo {
        /// In: number of entries that fit into `info`; out: number of CPUs.
        pub ncpus: u32,
        pub _pad0: u32,
        pub info: GuestHandle,
    }
}

layout! { McPhyscpuinfo = "struct xen_mc_physcpuinfo", 16, narrow 12;
    ncpus 0, info 8
}

/// Number and value of an MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct McinfoMsr {
    pub reg: u64,
    pub value: u64,
}

layout! { McinfoMsr = "struct mcinfo_msr", 16;
    reg 0, value 8
}

two_widths! {
    /// Description of a CPU in `XEN_MC_PHYSCPUINFO`.
    pub struct McLogicalCpu {
        pub cpunr: u32,
        pub chipid: u32,
        pub coreid: u16,
        pub threadid: u16,
        pub apicid: u32,
        pub clusterid: u32,
        pub ncores: u32,
        pub ncores_active: u32,
        pub nthreads: u32,
        pub cpuid_level: i32,
        pub family: u32,
        pub vendor: u32,
        pub model: u32,
        pub step: u32,
        pub vendorid: [u8; 16],
        pub brandid: [u8; 64],
        pub cpu_caps: [u32; 7],
        pub cache_size: u32,
        pub cache_alignment: u32,
        pub nmsrvals: i32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
        pub msrvalues: [McinfoMsr; 8],
    }
}

layout! { McLogicalCpu = "struct mcinfo_logical_cpu", 304, narrow 300;
    cpunr 0 "mc_cpunr", chipid 4 "mc_chipid", coreid 8 "mc_coreid", threadid 10 "mc_threadid",
    apicid 12 "mc_apicid", ncores 20 "mc_ncores", nthreads 28 "mc_nthreads",
    cpuid_level 32 "mc_cpuid_level", family 36 "mc_family", vendor 40 "mc_vendor",
    model 44 "mc_model", step 48 "mc_step", vendorid 52 "mc_vendorid", brandid 68 "mc_brandid",
    cpu_caps 132 "mc_cpu_caps", cache_size 160 "mc_cache_size", nmsrvals 168 "mc_nmsrvals",
    msrvalues 176 "mc_msrvalues"
}

/// The header of each entry in [`McInfo::mi_data`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct McinfoCommon {
    /// The kind of entry, such as `MC_TYPE_GLOBAL`.
    pub kind: u16,
    /// Size of the entry in bytes.
    pub size: u16,
}

layout! { McinfoCommon = "struct mcinfo_common", 4;
    kind 0 "type", size 2
}

/// The CPU on which an error occurred, and that CPU's global status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct McinfoGlobal {
    pub common: McinfoCommon,
    pub mc_domid: u16,
    pub mc_vcpuid: u16,
    pub mc_socketid: u32,
    pub mc_coreid: u16,
    pub mc_core_threadid: u16,
    pub mc_apicid: u32,
    pub mc_flags: u32,
    pub mc_gstatus: u64,
}

layout! { McinfoGlobal = "struct mcinfo_global", 32;
    common 0, mc_domid 4, mc_vcpuid 6, mc_socketid 8, mc_coreid 12, mc_core_threadid 14, mc_apicid 16,
    mc_flags 20, mc_gstatus 24
}

/// Contents of one machine-check bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct McinfoBank {
    pub common: McinfoCommon,
    pub mc_bank: u16,
    pub mc_domid: u16,
    pub mc_status: u64,
    pub mc_addr: u64,
    pub mc_misc: u64,
    pub mc_ctrl2: u64,
    pub mc_tsc: u64,
}

layout! { McinfoBank = "struct mcinfo_bank", 48;
    common 0, mc_bank 4, mc_domid 6, mc_status 8, mc_addr 16, mc_misc 24, mc_ctrl2 32, mc_tsc 40
}

/// The result of `XEN_MC_FETCH`: a sequence of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct McInfo {
    /// Number of entries in `mi_data`.
    pub mi_nentries: u32,
    pub flags: u32,
    pub mi_data: [u64; 95],
}

layout! { McInfo = "struct mc_info", 768;
    mi_nentries 0, flags 4, mi_data 8
}
