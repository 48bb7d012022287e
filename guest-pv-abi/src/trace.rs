//! Trace buffers: the events, and the header of a CPU's buffer.
//!
//! Source: Xen's public header `trace.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::{layout, numbers};

numbers! { NUMBERS_U32, "trace.h", u32;
    TRACE_EXTRA_MAX = 7, "TRACE_EXTRA_MAX";
    TRACE_EXTRA_SHIFT = 28, "TRACE_EXTRA_SHIFT";
    TRC_HD_CYCLE_FLAG = 0x8000_0000, "TRC_HD_CYCLE_FLAG";
    TRC_CLS_SHIFT = 16, "TRC_CLS_SHIFT";
    TRC_SUBCLS_SHIFT = 12, "TRC_SUBCLS_SHIFT";
    TRC_ALL = 0x0fff_f000, "TRC_ALL";
    TRC_GUEST = 0x0800_f000, "TRC_GUEST";
    TRC_LOST_RECORDS = 0x0001_f001, "TRC_LOST_RECORDS";
    TRC_TRACE_WRAP_BUFFER = 0x0001_f002, "TRC_TRACE_WRAP_BUFFER";
    TRC_TRACE_CPU_CHANGE = 0x0001_f003, "TRC_TRACE_CPU_CHANGE";
    TRC_SCHED_RUNSTATE_CHANGE = 0x0002_1001, "TRC_SCHED_RUNSTATE_CHANGE";
    TRC_SCHED_DOM_ADD = 0x0002_8001, "TRC_SCHED_DOM_ADD";
    TRC_SCHED_DOM_REM = 0x0002_8002, "TRC_SCHED_DOM_REM";
    TRC_SCHED_WAKE = 0x0002_8004, "TRC_SCHED_WAKE";
    TRC_SCHED_SWITCH = 0x0002_800a, "TRC_SCHED_SWITCH";
    TRC_DOM0_DOM_ADD = 0x0004_1001, "TRC_DOM0_DOM_ADD";
    TRC_DOM0_DOM_REM = 0x0004_1002, "TRC_DOM0_DOM_REM";
    TRC_PV_TRAP = 0x0020_1003, "TRC_PV_TRAP";
    TRC_PV_PAGE_FAULT = 0x0020_1004, "TRC_PV_PAGE_FAULT";
    TRC_PV_HYPERCALL_V2 = 0x0020_100d, "TRC_PV_HYPERCALL_V2";
    TRC_PV_HYPERCALL_SUBCALL = 0x0020_200e, "TRC_PV_HYPERCALL_SUBCALL";
    TRC_HW_IRQ_HANDLED = 0x0080_2008, "TRC_HW_IRQ_HANDLED";
    TRC_64_FLAG = 0x100, "TRC_64_FLAG";
}

/// The header of a CPU's buffer, before the records. Both words count bytes, modulo twice the size
/// of the record area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TBuf {
    /// Where the next record to be read begins; written by the tool.
    pub cons: u32,
    /// Where the next record will begin; written by the hypervisor.
    pub prod: u32,
}

layout! { TBuf = "struct t_buf", 8;
    cons 0, prod 4
}

/// Bits of [`TRC_PV_HYPERCALL_V2`]'s first word that say that argument `number` is present, as one word.
pub const fn hypercall_argument(number: u32) -> u32 {
    1 << (20 + 2 * number)
}
