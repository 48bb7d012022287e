//! Structures of domctl's sub-operations on vCPUs, their scheduling and their CPU policy.
//!
//! Source: Xen's public header `domctl.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::layout;
use crate::xen::CtlBitmap;
use crate::{GuestHandle64, Payload};

/// The argument of `XEN_DOMCTL_SETVCPUCONTEXT` and `XEN_DOMCTL_GETVCPUCONTEXT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuContext {
    pub vcpu: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
    /// Pointer to a `VcpuGuestContext`; null resets the vCPU.
    pub ctxt: GuestHandle64,
}

layout! { VcpuContext = "struct xen_domctl_vcpucontext", 16;
    vcpu 0, ctxt 8
}

/// The argument of `XEN_DOMCTL_GETVCPUINFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetVcpuInfo {
    /// In: number of the vCPU.
    pub vcpu: u32,
    /// Whether the vCPU is up (not halted by `VCPUOP_DOWN`).
    pub online: u8,
    /// Whether it waits for an event.
    pub blocked: u8,
    /// Whether it is running on a CPU now.
    pub running: u8,
    #[doc(hidden)]
    pub _gap0: [u8; 1],
    /// Nanoseconds that it has run.
    pub cpu_time: u64,
    /// The CPU on which it runs or last ran.
    pub cpu: u32,
    #[doc(hidden)]
    pub _gap1: [u8; 4],
}

layout! { GetVcpuInfo = "struct xen_domctl_getvcpuinfo", 24;
    vcpu 0, online 4, blocked 5, running 6, cpu_time 8, cpu 16
}

/// The argument of `XEN_DOMCTL_SETVCPUAFFINITY` and `XEN_DOMCTL_GETVCPUAFFINITY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuAffinity {
    pub vcpu: u32,
    /// A combination of `XEN_VCPUAFFINITY_*` flags.
    pub flags: u32,
    /// In and out: CPUs on which the vCPU may run.
    pub cpumap_hard: CtlBitmap,
    /// In and out: CPUs on which it runs preferably.
    pub cpumap_soft: CtlBitmap,
}

layout! { VcpuAffinity = "struct xen_domctl_vcpuaffinity", 40;
    vcpu 0, flags 4, cpumap_hard 8, cpumap_soft 24
}

/// The argument of `XEN_DOMCTL_MAX_VCPUS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaxVcpus {
    pub max: u32,
}

layout! { MaxVcpus = "struct xen_domctl_max_vcpus", 4;
    max 0
}

/// Weight and cap of a domain under the credit scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedCredit {
    pub weight: u16,
    /// Maximum CPU time in percent of one CPU; 0: no limit.
    pub cap: u16,
}

layout! { SchedCredit = "struct xen_domctl_sched_credit", 4;
    weight 0, cap 2
}

/// Weight and cap of a domain under the credit2 scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedCredit2 {
    pub weight: u16,
    /// Maximum CPU time in percent of one CPU; 0: no limit.
    pub cap: u16,
}

layout! { SchedCredit2 = "struct xen_domctl_sched_credit2", 4;
    weight 0, cap 2
}

/// Period and budget of a vCPU under the RTDS scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedRtds {
    pub period: u32,
    pub budget: u32,
    pub flags: u32,
}

layout! { SchedRtds = "struct xen_domctl_sched_rtds", 12;
    period 0, budget 4, flags 8
}

/// The argument of `XEN_DOMCTL_SCHEDULER_OP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedulerOp {
    /// The scheduler, one of `XEN_SCHEDULER_*`.
    pub sched_id: u32,
    /// The sub-operation, one of `XEN_DOMCTL_SCHEDOP_*`.
    pub cmd: u32,
    /// A `SchedCredit`, `SchedCredit2`, `SchedRtds`, or `SchedVcpus`.
    pub u: Payload<2>,
}

layout! { SchedulerOp = "struct xen_domctl_scheduler_op", 24;
    sched_id 0, cmd 4, u 8
}

/// The argument of `XEN_DOMCTL_GETHVMCONTEXT` and `XEN_DOMCTL_SETHVMCONTEXT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmContext {
    pub size: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
    pub buffer: GuestHandle64,
}

layout! { HvmContext = "struct xen_domctl_hvmcontext", 16;
    size 0, buffer 8
}

/// The argument of `XEN_DOMCTL_SET_EXT_VCPUCONTEXT` and `XEN_DOMCTL_GET_EXT_VCPUCONTEXT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExtVcpuContext {
    pub vcpu: u32,
    /// In: number of bytes given; out: number of valid bytes.
    pub size: u32,
    pub syscall32_callback_eip: u64,
    pub sysenter_callback_eip: u64,
    pub syscall32_callback_cs: u16,
    pub sysenter_callback_cs: u16,
    pub syscall32_disables_events: u8,
    pub sysenter_disables_events: u8,
    #[doc(hidden)]
    pub _gap0: [u8; 2],
    pub vmce_caps: u64,
    pub mci_ctl2_bank0: u64,
    pub mci_ctl2_bank1: u64,
    pub mcg_ext_ctl: u64,
}

layout! { ExtVcpuContext = "struct xen_domctl_ext_vcpucontext", 64;
    vcpu 0, size 4, syscall32_callback_eip 8, sysenter_callback_eip 16, syscall32_callback_cs 24, sysenter_callback_cs 26, syscall32_disables_events 28, sysenter_disables_events 29, vmce_caps 32 "vmce.caps", mci_ctl2_bank0 40 "vmce.mci_ctl2_bank0", mci_ctl2_bank1 48 "vmce.mci_ctl2_bank1", mcg_ext_ctl 56 "vmce.mcg_ext_ctl"
}

/// The argument of `XEN_DOMCTL_GET_CPU_POLICY` and `XEN_DOMCTL_SET_CPU_POLICY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuPolicy {
    /// In: number of entries that fit; out: number used.
    pub nr_leaves: u32,
    /// In: number of entries that fit; out: number used.
    pub nr_msrs: u32,
    /// Pointer to an array of `CpuidLeaf`.
    pub leaves: GuestHandle64,
    /// Pointer to an array of `MsrEntry`.
    pub msrs: GuestHandle64,
    /// Out, if setting fails: the leaf at fault.
    pub err_leaf: u32,
    pub err_subleaf: u32,
    pub err_msr: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
}

layout! { CpuPolicy = "struct xen_domctl_cpu_policy", 40;
    nr_leaves 0, nr_msrs 4, leaves 8, msrs 16, err_leaf 24, err_subleaf 28, err_msr 32
}

/// The argument of `XEN_DOMCTL_DEBUG_OP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DebugOp {
    pub op: u32,
    pub vcpu: u32,
}

layout! { DebugOp = "struct xen_domctl_debug_op", 8;
    op 0, vcpu 4
}

/// The argument of `XEN_DOMCTL_GETTSCINFO` and `XEN_DOMCTL_SETTSCINFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TscInfo {
    /// How the TSC behaves, one of `XEN_CPUID_TSC_MODE_*`.
    pub tsc_mode: u32,
    pub gtsc_khz: u32,
    pub incarnation: u32,
    /// Padding; must be zero.
    pub pad: u32,
    pub elapsed_nsec: u64,
}

layout! { TscInfo = "struct xen_domctl_tsc_info", 24;
    tsc_mode 0, gtsc_khz 4, incarnation 8, pad 12, elapsed_nsec 16
}

/// The argument of `XEN_DOMCTL_SETVCPUEXTSTATE` and `XEN_DOMCTL_GETVCPUEXTSTATE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuExtState {
    pub vcpu: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
    pub xfeature_mask: u64,
    /// In: size of the buffer in bytes; out: bytes needed.
    pub size: u64,
    /// Pointer to XCR0, xcr0_accum, then the XSAVE area.
    pub buffer: GuestHandle64,
}

layout! { VcpuExtState = "struct xen_domctl_vcpuextstate", 32;
    vcpu 0, xfeature_mask 8, size 16, buffer 24
}

/// One MSR of `VcpuMsrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuMsr {
    pub index: u32,
    /// Reserved, must be zero.
    pub reserved: u32,
    pub value: u64,
}

layout! { VcpuMsr = "struct xen_domctl_vcpu_msr", 16;
    index 0, reserved 4, value 8
}

/// The argument of `XEN_DOMCTL_GET_VCPU_MSRS` and `XEN_DOMCTL_SET_VCPU_MSRS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuMsrs {
    pub vcpu: u32,
    /// In: number of entries that fit; out: number used or needed.
    pub msr_count: u32,
    /// Pointer to an array of `VcpuMsr`.
    pub msrs: GuestHandle64,
}

layout! { VcpuMsrs = "struct xen_domctl_vcpu_msrs", 16;
    vcpu 0, msr_count 4, msrs 8
}
