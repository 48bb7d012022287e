//! event_channel_op: the sub-operations, and the shared layouts of the 2-level and the FIFO ABI.
//!
//! Source: Xen's public header `event_channel.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::{layout, numbers};

numbers! { NUMBERS_U32, "event_channel.h", u32;
    EVTCHNOP_BIND_INTERDOMAIN = 0, "EVTCHNOP_bind_interdomain";
    EVTCHNOP_BIND_VIRQ = 1, "EVTCHNOP_bind_virq";
    EVTCHNOP_BIND_PIRQ = 2, "EVTCHNOP_bind_pirq";
    EVTCHNOP_CLOSE = 3, "EVTCHNOP_close";
    EVTCHNOP_SEND = 4, "EVTCHNOP_send";
    EVTCHNOP_STATUS = 5, "EVTCHNOP_status";
    EVTCHNOP_ALLOC_UNBOUND = 6, "EVTCHNOP_alloc_unbound";
    EVTCHNOP_BIND_IPI = 7, "EVTCHNOP_bind_ipi";
    EVTCHNOP_BIND_VCPU = 8, "EVTCHNOP_bind_vcpu";
    EVTCHNOP_UNMASK = 9, "EVTCHNOP_unmask";
    EVTCHNOP_RESET = 10, "EVTCHNOP_reset";
    EVTCHNOP_INIT_CONTROL = 11, "EVTCHNOP_init_control";
    EVTCHNOP_EXPAND_ARRAY = 12, "EVTCHNOP_expand_array";
    EVTCHNOP_SET_PRIORITY = 13, "EVTCHNOP_set_priority";
    BIND_PIRQ__WILL_SHARE = 1, "BIND_PIRQ__WILL_SHARE";
    EVTCHNSTAT_CLOSED = 0, "EVTCHNSTAT_closed";
    EVTCHNSTAT_UNBOUND = 1, "EVTCHNSTAT_unbound";
    EVTCHNSTAT_INTERDOMAIN = 2, "EVTCHNSTAT_interdomain";
    EVTCHNSTAT_PIRQ = 3, "EVTCHNSTAT_pirq";
    EVTCHNSTAT_VIRQ = 4, "EVTCHNSTAT_virq";
    EVTCHNSTAT_IPI = 5, "EVTCHNSTAT_ipi";
    EVTCHN_2L_NR_CHANNELS = 0x1000, "EVTCHN_2L_NR_CHANNELS";
    EVTCHN_FIFO_PRIORITY_MAX = 0, "EVTCHN_FIFO_PRIORITY_MAX";
    EVTCHN_FIFO_PRIORITY_DEFAULT = 7, "EVTCHN_FIFO_PRIORITY_DEFAULT";
    EVTCHN_FIFO_PRIORITY_MIN = 15, "EVTCHN_FIFO_PRIORITY_MIN";
    EVTCHN_FIFO_MAX_QUEUES = 16, "EVTCHN_FIFO_MAX_QUEUES";
    EVTCHN_FIFO_PENDING = 31, "EVTCHN_FIFO_PENDING";
    EVTCHN_FIFO_MASKED = 30, "EVTCHN_FIFO_MASKED";
    EVTCHN_FIFO_LINKED = 29, "EVTCHN_FIFO_LINKED";
    EVTCHN_FIFO_BUSY = 28, "EVTCHN_FIFO_BUSY";
    EVTCHN_FIFO_LINK_BITS = 17, "EVTCHN_FIFO_LINK_BITS";
    EVTCHN_FIFO_LINK_MASK = 0x0001_ffff, "EVTCHN_FIFO_LINK_MASK";
    EVTCHN_FIFO_NR_CHANNELS = 0x0002_0000, "EVTCHN_FIFO_NR_CHANNELS";
}

/// The argument of `EVTCHNOP_ALLOC_UNBOUND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnAllocUnbound {
    pub dom: u16,
    pub remote_dom: u16,
    /// Out: the port that was allocated.
    pub port: u32,
}

layout! { EvtchnAllocUnbound = "struct evtchn_alloc_unbound", 8;
    dom 0, remote_dom 2, port 4
}

/// The argument of `EVTCHNOP_BIND_INTERDOMAIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindInterdomain {
    pub remote_dom: u16,
    #[doc(hidden)]
    pub _gap0: [u8; 2],
    pub remote_port: u32,
    /// Out: the local port that was allocated.
    pub local_port: u32,
}

layout! { EvtchnBindInterdomain = "struct evtchn_bind_interdomain", 12;
    remote_dom 0, remote_port 4, local_port 8
}

/// The argument of `EVTCHNOP_BIND_VIRQ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindVirq {
    /// The virtual interrupt, one of `VIRQ_*`.
    pub virq: u32,
    pub vcpu: u32,
    /// Out: the port that was allocated.
    pub port: u32,
}

layout! { EvtchnBindVirq = "struct evtchn_bind_virq", 12;
    virq 0, vcpu 4, port 8
}

/// The argument of `EVTCHNOP_BIND_PIRQ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindPirq {
    pub pirq: u32,
    /// `BIND_PIRQ__WILL_SHARE` or 0.
    pub flags: u32,
    /// Out: the port that was allocated.
    pub port: u32,
}

layout! { EvtchnBindPirq = "struct evtchn_bind_pirq", 12;
    pirq 0, flags 4, port 8
}

/// The argument of `EVTCHNOP_BIND_IPI`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindIpi {
    pub vcpu: u32,
    /// Out: the port that was allocated.
    pub port: u32,
}

layout! { EvtchnBindIpi = "struct evtchn_bind_ipi", 8;
    vcpu 0, port 4
}

/// The argument of `EVTCHNOP_CLOSE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnClose {
    pub port: u32,
}

layout! { EvtchnClose = "struct evtchn_close", 4;
    port 0
}

/// The argument of `EVTCHNOP_SEND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnSend {
    pub port: u32,
}

layout! { EvtchnSend = "struct evtchn_send", 4;
    port 0
}

/// The argument of `EVTCHNOP_STATUS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnStatus {
    pub dom: u16,
    #[doc(hidden)]
    pub _gap0: [u8; 2],
    pub port: u32,
    /// Out: the kind of channel, one of `EVTCHNSTAT_*`.
    pub status: u32,
    /// Out: the vCPU that the port signals.
    pub vcpu: u32,
    /// Out: the remote domain and port, or the physical or virtual interrupt.
    pub u: [u32; 2],
}

layout! { EvtchnStatus = "struct evtchn_status", 24;
    dom 0, port 4, status 8, vcpu 12, u 16
}

/// The argument of `EVTCHNOP_BIND_VCPU`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnBindVcpu {
    pub port: u32,
    pub vcpu: u32,
}

layout! { EvtchnBindVcpu = "struct evtchn_bind_vcpu", 8;
    port 0, vcpu 4
}

/// The argument of `EVTCHNOP_UNMASK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnUnmask {
    pub port: u32,
}

layout! { EvtchnUnmask = "struct evtchn_unmask", 4;
    port 0
}

/// The argument of `EVTCHNOP_RESET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnReset {
    pub dom: u16,
}

layout! { EvtchnReset = "struct evtchn_reset", 2;
    dom 0
}

/// The argument of `EVTCHNOP_INIT_CONTROL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnInitControl {
    /// Guest frame that holds the control block.
    pub control_gfn: u64,
    /// Offset of the control block in its frame.
    pub offset: u32,
    pub vcpu: u32,
    /// Out: number of bits in an event word's link.
    pub link_bits: u8,
    #[doc(hidden)]
    pub _pad: [u8; 7],
}

layout! { EvtchnInitControl = "struct evtchn_init_control", 24;
    control_gfn 0, offset 8, vcpu 12, link_bits 16, _pad 17
}

/// The argument of `EVTCHNOP_EXPAND_ARRAY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnExpandArray {
    /// Guest frame of the new page of event words.
    pub array_gfn: u64,
}

layout! { EvtchnExpandArray = "struct evtchn_expand_array", 8;
    array_gfn 0
}

/// The argument of `EVTCHNOP_SET_PRIORITY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnSetPriority {
    pub port: u32,
    /// Priority from 0 (highest) to 15 (lowest).
    pub priority: u32,
}

layout! { EvtchnSetPriority = "struct evtchn_set_priority", 8;
    port 0, priority 4
}

/// The argument of the old event_channel_op_compat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnOp {
    /// The sub-operation, one of `EVTCHNOP_*`.
    pub cmd: u32,
    /// The structure of the sub-operation.
    pub u: [u32; 6],
}

layout! { EvtchnOp = "struct evtchn_op", 28;
    cmd 0, u 4
}

/// FIFO ABI: the heads of a vCPU's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnFifoControlBlock {
    /// A bit for each priority whose queue isn't empty.
    pub ready: u32,
    #[doc(hidden)]
    pub _rsvd: u32,
    /// First port of the queue of each priority.
    pub head: [u32; 16],
}

layout! { EvtchnFifoControlBlock = "struct evtchn_fifo_control_block", 72;
    ready 0, _rsvd 4, head 8
}
