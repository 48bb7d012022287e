//! Structures of sysctl's sub-operations.
//!
//! Source: Xen's public header `sysctl.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::layout;
use crate::xen::CtlBitmap;
use crate::{GuestHandle64, Payload};

/// The argument of `XEN_SYSCTL_READCONSOLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReadConsole {
    /// Whether to empty the ring afterwards.
    pub clear: u8,
    /// Whether to start at `index`.
    pub incremental: u8,
    pub pad0: u8,
    pub pad1: u8,
    /// Position for incremental reads; in and out.
    pub index: u32,
    /// Pointer to the buffer's bytes.
    pub buffer: GuestHandle64,
    /// In: size of the buffer in bytes; out: bytes written.
    pub count: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
}

layout! { ReadConsole = "struct xen_sysctl_readconsole", 24;
    clear 0, incremental 1, pad0 2, pad1 3, index 4, buffer 8, count 16
}

/// The argument of `XEN_SYSCTL_TBUF_OP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TbufOp {
    /// The sub-operation, one of `XEN_SYSCTL_TBUFOP_*`.
    pub cmd: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
    pub cpu_mask: CtlBitmap,
    pub evt_mask: u32,
    #[doc(hidden)]
    pub _gap1: [u8; 4],
    /// Out: the first frame of `struct t_info`.
    pub buffer_mfn: u64,
    /// In: pages of each CPU's buffer; out: bytes of `struct t_info`.
    pub size: u32,
    #[doc(hidden)]
    pub _gap2: [u8; 4],
}

layout! { TbufOp = "struct xen_sysctl_tbuf_op", 48;
    cmd 0, cpu_mask 8, evt_mask 24, buffer_mfn 32, size 40
}

/// The argument of `XEN_SYSCTL_PHYSINFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysInfo {
    pub threads_per_core: u32,
    pub cores_per_socket: u32,
    /// Number of CPUs that are online.
    pub nr_cpus: u32,
    pub max_cpu_id: u32,
    pub nr_nodes: u32,
    pub max_node_id: u32,
    pub cpu_khz: u32,
    /// A combination of `XEN_SYSCTL_PHYSCAP_*` flags.
    pub capabilities: u32,
    pub arch_capabilities: u32,
    /// Padding, written as zero.
    pub pad: u32,
    pub total_pages: u64,
    pub free_pages: u64,
    pub scrub_pages: u64,
    pub outstanding_pages: u64,
    pub max_mfn: u64,
    /// The first words of the machine's featureset.
    pub hw_cap: [u32; 8],
}

layout! { PhysInfo = "struct xen_sysctl_physinfo", 112;
    threads_per_core 0, cores_per_socket 4, nr_cpus 8, max_cpu_id 12, nr_nodes 16, max_node_id 20, cpu_khz 24, capabilities 28, arch_capabilities 32, pad 36, total_pages 40, free_pages 48, scrub_pages 56, outstanding_pages 64, max_mfn 72, hw_cap 80
}

/// The argument of `XEN_SYSCTL_SCHED_ID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedId {
    /// The scheduler, one of `XEN_SCHEDULER_*`.
    pub sched_id: u32,
}

layout! { SchedId = "struct xen_sysctl_sched_id", 4;
    sched_id 0
}

/// Name of a performance counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PerfcDesc {
    pub name: [u8; 80],
    pub nr_vals: u32,
}

layout! { PerfcDesc = "struct xen_sysctl_perfc_desc", 84;
    name 0, nr_vals 80
}

/// The argument of `XEN_SYSCTL_PERFC_OP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PerfcOp {
    /// The sub-operation, one of `XEN_SYSCTL_PERFCOP_*`.
    pub cmd: u32,
    pub nr_counters: u32,
    pub nr_vals: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
    /// Pointer to an array of `PerfcDesc`.
    pub desc: GuestHandle64,
    /// Pointer to an array of 32-bit values.
    pub val: GuestHandle64,
}

layout! { PerfcOp = "struct xen_sysctl_perfc_op", 32;
    cmd 0, nr_counters 4, nr_vals 8, desc 16, val 24
}

/// The argument of `XEN_SYSCTL_GETDOMAININFOLIST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetDomainInfoList {
    /// Id at which the list starts.
    pub first_domain: u16,
    #[doc(hidden)]
    pub _gap0: [u8; 2],
    /// Number of entries that fit into `buffer`.
    pub max_domains: u32,
    /// Pointer to an array of `GetDomainInfo`.
    pub buffer: GuestHandle64,
    /// Out: number of entries written.
    pub num_domains: u32,
    #[doc(hidden)]
    pub _gap1: [u8; 4],
}

layout! { GetDomainInfoList = "struct xen_sysctl_getdomaininfolist", 24;
    first_domain 0, max_domains 4, buffer 8, num_domains 16
}

/// The argument of `XEN_SYSCTL_DEBUG_KEYS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DebugKeys {
    pub keys: GuestHandle64,
    pub nr_keys: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
}

layout! { DebugKeys = "struct xen_sysctl_debug_keys", 16;
    keys 0, nr_keys 8
}

/// One CPU of `GetCpuInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuInfo {
    /// Nanoseconds that the CPU was idle.
    pub idletime: u64,
}

layout! { CpuInfo = "struct xen_sysctl_cpuinfo", 8;
    idletime 0
}

/// The argument of `XEN_SYSCTL_GETCPUINFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetCpuInfo {
    pub max_cpus: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
    /// Pointer to an array of `CpuInfo`.
    pub info: GuestHandle64,
    /// Out: number of entries written.
    pub nr_cpus: u32,
    #[doc(hidden)]
    pub _gap1: [u8; 4],
}

layout! { GetCpuInfo = "struct xen_sysctl_getcpuinfo", 24;
    max_cpus 0, info 8, nr_cpus 16
}

/// The argument of `XEN_SYSCTL_AVAILHEAP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AvailHeap {
    pub min_bitwidth: u32,
    pub max_bitwidth: u32,
    /// The NUMA node; -1: all nodes.
    pub node: i32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
    /// Out: free memory in bytes.
    pub avail_bytes: u64,
}

layout! { AvailHeap = "struct xen_sysctl_availheap", 24;
    min_bitwidth 0, max_bitwidth 4, node 8, avail_bytes 16
}

/// The argument of `XEN_SYSCTL_GET_PMSTAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetPmstat {
    /// The type, one of `PMSTAT_*`.
    pub type_: u32,
    pub cpuid: u32,
    pub u: Payload<7>,
}

layout! { GetPmstat = "struct xen_sysctl_get_pmstat", 64;
    type_ 0 "type", cpuid 4, u 8
}

/// The argument of `XEN_SYSCTL_CPU_HOTPLUG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuHotplug {
    pub cpu: u32,
    /// The sub-operation, one of `XEN_SYSCTL_CPU_HOTPLUG_*`.
    pub op: u32,
}

layout! { CpuHotplug = "struct xen_sysctl_cpu_hotplug", 8;
    cpu 0, op 4
}

/// The argument of `XEN_SYSCTL_PM_OP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PmOp {
    pub cmd: u32,
    pub cpuid: u32,
    pub u: Payload<15>,
}

layout! { PmOp = "struct xen_sysctl_pm_op", 128;
    cmd 0, cpuid 4, u 8
}

/// One CPU of `CpuTopoInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuTopo {
    pub core: u32,
    pub socket: u32,
    pub node: u32,
}

layout! { CpuTopo = "struct xen_sysctl_cputopo", 12;
    core 0, socket 4, node 8
}

/// The argument of `XEN_SYSCTL_CPUTOPOINFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuTopoInfo {
    /// In: number of entries that fit; out: number used or needed.
    pub num_cpus: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
    /// Pointer to an array of `CpuTopo`; null asks for the count.
    pub cputopo: GuestHandle64,
}

layout! { CpuTopoInfo = "struct xen_sysctl_cputopoinfo", 16;
    num_cpus 0, cputopo 8
}

/// One node of `NumaInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemInfo {
    /// Size of the node's memory in bytes.
    pub memsize: u64,
    /// Free memory of the node in bytes.
    pub memfree: u64,
}

layout! { MemInfo = "struct xen_sysctl_meminfo", 16;
    memsize 0, memfree 8
}

/// The argument of `XEN_SYSCTL_NUMAINFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NumaInfo {
    /// In: number of entries that fit; out: number used or needed.
    pub num_nodes: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
    /// Pointer to an array of `MemInfo`.
    pub meminfo: GuestHandle64,
    /// Pointer to `num_nodes * num_nodes` words.
    pub distance: GuestHandle64,
}

layout! { NumaInfo = "struct xen_sysctl_numainfo", 24;
    num_nodes 0, meminfo 8, distance 16
}

/// The argument of `XEN_SYSCTL_CPUPOOL_OP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpupoolOp {
    /// The sub-operation, one of `XEN_SYSCTL_CPUPOOL_OP_*`.
    pub op: u32,
    pub cpupool_id: u32,
    pub sched_id: u32,
    pub domid: u32,
    pub cpu: u32,
    pub n_dom: u32,
    pub cpumap: CtlBitmap,
}

layout! { CpupoolOp = "struct xen_sysctl_cpupool_op", 40;
    op 0, cpupool_id 4, sched_id 8, domid 12, cpu 16, n_dom 20, cpumap 24
}

/// Global parameters of the credit scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreditSchedule {
    pub tslice_ms: u32,
    pub ratelimit_us: u32,
    pub vcpu_migr_delay_us: u32,
}

layout! { CreditSchedule = "struct xen_sysctl_credit_schedule", 12;
    tslice_ms 0, ratelimit_us 4, vcpu_migr_delay_us 8
}

/// Global parameters of the credit2 scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Credit2Schedule {
    pub ratelimit_us: u32,
}

layout! { Credit2Schedule = "struct xen_sysctl_credit2_schedule", 4;
    ratelimit_us 0
}

/// The argument of `XEN_SYSCTL_SCHEDULER_OP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedulerOp {
    pub cpupool_id: u32,
    pub sched_id: u32,
    /// The sub-operation, one of `XEN_SYSCTL_SCHEDOP_*`.
    pub cmd: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
    /// A `CreditSchedule` or a `Credit2Schedule`.
    pub u: Payload<2>,
}

layout! { SchedulerOp = "struct xen_sysctl_scheduler_op", 32;
    cpupool_id 0, sched_id 4, cmd 8, u 16
}

/// The argument of `XEN_SYSCTL_PCITOPOINFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PciTopoInfo {
    pub num_devs: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
    /// Pointer to an array of `PhysdevPciDevice`.
    pub devs: GuestHandle64,
    /// Pointer to an array of 32-bit node ids.
    pub nodes: GuestHandle64,
}

layout! { PciTopoInfo = "struct xen_sysctl_pcitopoinfo", 24;
    num_devs 0, devs 8, nodes 16
}

/// The argument of `XEN_SYSCTL_GET_CPU_LEVELLING_CAPS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuLevellingCaps {
    pub caps: u32,
}

layout! { CpuLevellingCaps = "struct xen_sysctl_cpu_levelling_caps", 4;
    caps 0
}

/// The argument of `XEN_SYSCTL_GET_CPU_FEATURESET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuFeatureset {
    /// Which featureset, one of `XEN_SYSCTL_CPU_FEATURESET_*`.
    pub index: u32,
    /// In: number of words that fit; out: number used or needed.
    pub nr_features: u32,
    /// Pointer to an array of 32-bit words.
    pub features: GuestHandle64,
}

layout! { CpuFeatureset = "struct xen_sysctl_cpu_featureset", 16;
    index 0, nr_features 4, features 8
}

/// The argument of `XEN_SYSCTL_GET_CPU_POLICY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuPolicy {
    /// Which policy, one of `XEN_SYSCTL_CPU_POLICY_*`.
    pub index: u32,
    /// In: number of entries that fit; out: number used.
    pub nr_leaves: u32,
    /// In: number of entries that fit; out: number used.
    pub nr_msrs: u32,
    #[doc(hidden)]
    pub _rsvd: u32,
    /// Pointer to an array of `CpuidLeaf`.
    pub leaves: GuestHandle64,
    /// Pointer to an array of `MsrEntry`.
    pub msrs: GuestHandle64,
}

layout! { CpuPolicy = "struct xen_sysctl_cpu_policy", 32;
    index 0, nr_leaves 4, nr_msrs 8, _rsvd 12, leaves 16, msrs 24
}
