//! Structures of domctl's sub-operations on a whole domain.
//!
//! Source: Xen's public header `domctl.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle64;
use crate::arch_x86::ArchDomainConfig;
use crate::form::two_widths;
use crate::layout::layout;
use crate::xen::CtlBitmap;

/// The argument of `XEN_DOMCTL_CREATEDOMAIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateDomain {
    /// XSM security label; unused here.
    pub ssidref: u32,
    /// UUID of the domain.
    pub handle: [u8; 16],
    /// A combination of `XEN_DOMCTL_CDF_*` flags.
    pub flags: u32,
    /// A combination of `XEN_DOMCTL_IOMMU_*` flags.
    pub iommu_opts: u32,
    /// Number of vCPUs that the domain gets.
    pub max_vcpus: u32,
    /// Highest event channel port that the domain may use.
    pub max_evtchn_port: u32,
    /// Maximum frames of its grant table; -1: the hypervisor's default.
    pub max_grant_frames: i32,
    /// Maximum frames for its grant handles; -1: the hypervisor's default.
    pub max_maptrack_frames: i32,
    /// Highest grant table version that the domain may use.
    pub grant_opts: u32,
    /// The altp2m mode, one of `XEN_DOMCTL_ALTP2M_*`.
    pub altp2m_opts: u32,
    /// Bytes of trace buffer for each vCPU.
    pub vmtrace_size: u32,
    /// Id of the domain's CPU pool.
    pub cpupool_id: u32,
    /// The x86-specific part of the configuration.
    pub arch: ArchDomainConfig,
}

layout! { CreateDomain = "struct xen_domctl_createdomain", 68;
    ssidref 0, handle 4, flags 20, iommu_opts 24, max_vcpus 28, max_evtchn_port 32, max_grant_frames 36, max_maptrack_frames 40, grant_opts 44, altp2m_opts 48, vmtrace_size 52, cpupool_id 56, arch 60
}

/// `XEN_DOMCTL_GETDOMAININFO`, also the element of `XEN_SYSCTL_GETDOMAININFOLIST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetDomainInfo {
    /// Id of the domain.
    pub domain: u16,
    /// Padding, written as zero.
    pub pad1: u16,
    /// `XEN_DOMINF_*` flags, and the shutdown code in bits 16 to 23.
    pub flags: u32,
    /// Number of pages that the domain owns.
    pub tot_pages: u64,
    /// Maximum number of pages that it may own.
    pub max_pages: u64,
    /// Pages that it has claimed but not yet allocated.
    pub outstanding_pages: u64,
    /// Pages that it shares with other domains.
    pub shr_pages: u64,
    /// Pages that are paged out.
    pub paged_pages: u64,
    /// Machine frame of the shared info page.
    pub shared_info_frame: u64,
    /// Nanoseconds that all vCPUs have run together.
    pub cpu_time: u64,
    /// Number of vCPUs that are up.
    pub nr_online_vcpus: u32,
    /// Highest vCPU id, or `XEN_INVALID_MAX_VCPU_ID`.
    pub max_vcpu_id: u32,
    /// XSM security label; unused here.
    pub ssidref: u32,
    /// UUID of the domain.
    pub handle: [u8; 16],
    /// Id of the domain's CPU pool.
    pub cpupool: u32,
    /// Width of guest physical addresses in bits (HVM).
    pub gpaddr_bits: u8,
    /// Padding, written as zero.
    pub pad2: [u8; 7],
    /// The x86-specific part of its configuration.
    pub arch_config: ArchDomainConfig,
}

layout! { GetDomainInfo = "struct xen_domctl_getdomaininfo", 112;
    domain 0, pad1 2, flags 4, tot_pages 8, max_pages 16, outstanding_pages 24, shr_pages 32, paged_pages 40, shared_info_frame 48, cpu_time 56, nr_online_vcpus 64, max_vcpu_id 68, ssidref 72, handle 76, cpupool 92, gpaddr_bits 96, pad2 97, arch_config 104
}

/// The argument of `XEN_DOMCTL_GETPAGEFRAMEINFO3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetPageFrameInfo3 {
    /// Number of entries in `array`.
    pub num: u64,
    /// Pointer to the entries. In: frames; out: `XEN_DOMCTL_PFINFO_*`.
    pub array: GuestHandle64,
}

layout! { GetPageFrameInfo3 = "struct xen_domctl_getpageframeinfo3", 16;
    num 0, array 8
}

/// Counters of the log-dirty mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ShadowOpStats {
    pub fault_count: u32,
    pub dirty_count: u32,
}

layout! { ShadowOpStats = "struct xen_domctl_shadow_op_stats", 8;
    fault_count 0, dirty_count 4
}

/// The argument of `XEN_DOMCTL_SHADOW_OP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ShadowOp {
    /// The sub-operation, one of `XEN_DOMCTL_SHADOW_OP_*`.
    pub op: u32,
    /// `XEN_DOMCTL_SHADOW_ENABLE_*`, or `XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL` for PEEK and CLEAN.
    pub mode: u32,
    /// Size of the shadow memory in MiB.
    pub mb: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
    /// Pointer to the bitmap's bytes.
    pub dirty_bitmap: GuestHandle64,
    /// Size of the bitmap in bits; written back: number of bits filled.
    pub pages: u64,
    /// Counters, written back by the call.
    pub stats: ShadowOpStats,
}

layout! { ShadowOp = "struct xen_domctl_shadow_op", 40;
    op 0, mode 4, mb 8, dirty_bitmap 16, pages 24, stats 32
}

/// The argument of `XEN_DOMCTL_MAX_MEM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaxMem {
    /// Maximum memory of the domain in KiB.
    pub max_memkb: u64,
}

layout! { MaxMem = "struct xen_domctl_max_mem", 8;
    max_memkb 0
}

/// The argument of `XEN_DOMCTL_SETNODEAFFINITY` and `XEN_DOMCTL_GETNODEAFFINITY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NodeAffinity {
    pub nodemap: CtlBitmap,
}

layout! { NodeAffinity = "struct xen_domctl_nodeaffinity", 16;
    nodemap 0
}

/// The argument of `XEN_DOMCTL_SETDOMAINHANDLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetDomainHandle {
    /// The new UUID.
    pub handle: [u8; 16],
}

layout! { SetDomainHandle = "struct xen_domctl_setdomainhandle", 16;
    handle 0
}

/// The argument of `XEN_DOMCTL_SETDEBUGGING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetDebugging {
    pub enable: u8,
}

layout! { SetDebugging = "struct xen_domctl_setdebugging", 1;
    enable 0
}

/// The argument of `XEN_DOMCTL_HYPERCALL_INIT`: fills a page with hypercall stubs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HypercallInit {
    pub gmfn: u64,
}

layout! { HypercallInit = "struct xen_domctl_hypercall_init", 8;
    gmfn 0
}

/// The argument of `XEN_DOMCTL_SETTIMEOFFSET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetTimeOffset {
    pub time_offset_seconds: i64,
}

layout! { SetTimeOffset = "struct xen_domctl_settimeoffset", 8;
    time_offset_seconds 0
}

/// The argument of `XEN_DOMCTL_SET_ADDRESS_SIZE` and `XEN_DOMCTL_GET_ADDRESS_SIZE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddressSize {
    /// Address width of the domain's kernel, 32 or 64.
    pub size: u32,
}

layout! { AddressSize = "struct xen_domctl_address_size", 4;
    size 0
}

/// The argument of `XEN_DOMCTL_SENDTRIGGER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SendTrigger {
    /// The kind of trigger, one of `XEN_DOMCTL_SENDTRIGGER_*`.
    pub trigger: u32,
    pub vcpu: u32,
}

layout! { SendTrigger = "struct xen_domctl_sendtrigger", 8;
    trigger 0, vcpu 4
}

/// The argument of `XEN_DOMCTL_SUBSCRIBE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Subscribe {
    /// A port of the subscribed domain, which it has connected to the domain to notify.
    pub port: u32,
}

layout! { Subscribe = "struct xen_domctl_subscribe", 4;
    port 0
}

/// The argument of `XEN_DOMCTL_SET_TARGET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetTarget {
    pub target: u16,
}

layout! { SetTarget = "struct xen_domctl_set_target", 2;
    target 0
}

/// The argument of `XEN_DOMCTL_SET_ACCESS_REQUIRED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetAccessRequired {
    pub access_required: u8,
}

layout! { SetAccessRequired = "struct xen_domctl_set_access_required", 1;
    access_required 0
}

two_widths! {
    /// The argument of `XEN_DOMCTL_CACHEFLUSH`.
    pub struct CacheFlush {
        pub start_pfn: u64 => u32,
        pub nr_pfns: u64 => u32,
    }
}

layout! { CacheFlush = "struct xen_domctl_cacheflush", 16, narrow 8;
    start_pfn 0, nr_pfns 8
}

/// The argument of `XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE` and `XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PagingMempool {
    /// Size of the memory pool in bytes.
    pub size: u64,
}

layout! { PagingMempool = "struct xen_domctl_paging_mempool", 8;
    size 0
}

/// The argument of `XEN_DOMCTL_SETVNUMAINFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Vnuma {
    pub nr_vnodes: u32,
    pub nr_vmemranges: u32,
    pub nr_vcpus: u32,
    /// Padding; must be zero.
    pub pad: u32,
    pub vdistance: GuestHandle64,
    pub vcpu_to_vnode: GuestHandle64,
    pub vnode_to_pnode: GuestHandle64,
    pub vmemrange: GuestHandle64,
}

layout! { Vnuma = "struct xen_domctl_vnuma", 48;
    nr_vnodes 0, nr_vmemranges 4, nr_vcpus 8, pad 12, vdistance 16, vcpu_to_vnode 24, vnode_to_pnode 32, vmemrange 40
}
