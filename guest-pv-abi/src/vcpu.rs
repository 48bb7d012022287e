//! vcpu_op: starting and stopping vCPUs, timers, shared areas.
//!
//! Source: Xen's public header `vcpu.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::form::two_widths;
use crate::layout::{layout, numbers};

numbers! { NUMBERS_U32, "vcpu.h", u32;
    VCPUOP_INITIALISE = 0, "VCPUOP_initialise";
    VCPUOP_UP = 1, "VCPUOP_up";
    VCPUOP_DOWN = 2, "VCPUOP_down";
    VCPUOP_IS_UP = 3, "VCPUOP_is_up";
    VCPUOP_GET_RUNSTATE_INFO = 4, "VCPUOP_get_runstate_info";
    RUNSTATE_RUNNING = 0, "RUNSTATE_running";
    RUNSTATE_RUNNABLE = 1, "RUNSTATE_runnable";
    RUNSTATE_BLOCKED = 2, "RUNSTATE_blocked";
    RUNSTATE_OFFLINE = 3, "RUNSTATE_offline";
    VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA = 5, "VCPUOP_register_runstate_memory_area";
    VCPUOP_SET_PERIODIC_TIMER = 6, "VCPUOP_set_periodic_timer";
    VCPUOP_STOP_PERIODIC_TIMER = 7, "VCPUOP_stop_periodic_timer";
    VCPUOP_SET_SINGLESHOT_TIMER = 8, "VCPUOP_set_singleshot_timer";
    VCPUOP_STOP_SINGLESHOT_TIMER = 9, "VCPUOP_stop_singleshot_timer";
    VCPU_SSHOTTMR_FUTURE = 1, "VCPU_SSHOTTMR_future";
    VCPUOP_REGISTER_VCPU_INFO = 10, "VCPUOP_register_vcpu_info";
    VCPUOP_SEND_NMI = 11, "VCPUOP_send_nmi";
    VCPUOP_GET_PHYSID = 12, "VCPUOP_get_physid";
    VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA = 13, "VCPUOP_register_vcpu_time_memory_area";
    VCPUOP_REGISTER_RUNSTATE_PHYS_AREA = 14, "VCPUOP_register_runstate_phys_area";
    VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA = 15, "VCPUOP_register_vcpu_time_phys_area";
}

numbers! { NUMBERS_U64, "vcpu.h", u64;
    XEN_RUNSTATE_UPDATE = 0x8000_0000_0000_0000, "XEN_RUNSTATE_UPDATE";
}

two_widths! {
    /// How long a vCPU has been in each state.
    pub struct VcpuRunstateInfo {
        /// The present state, one of `RUNSTATE_*`.
        pub state: i32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
        /// System time at which the state was entered. Bit 63 (`XEN_RUNSTATE_UPDATE`) is set while the
        /// structure is being written.
        pub state_entry_time: u64,
        /// Nanoseconds spent in each state.
        pub time: [u64; 4],
    }
}

layout! { VcpuRunstateInfo = "struct vcpu_runstate_info", 48, narrow 44;
    state 0, state_entry_time 8, time 16
}

two_widths! {
    /// The argument of `VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA`.
    pub struct VcpuRegisterRunstateMemoryArea {
        /// Virtual address of the area.
        pub addr: u64 => [u32; 2],
    }
}

layout! { VcpuRegisterRunstateMemoryArea = "struct vcpu_register_runstate_memory_area", 8, narrow 8;
    addr 0 "addr.p"
}

/// The argument of `VCPUOP_SET_PERIODIC_TIMER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuSetPeriodicTimer {
    pub period_ns: u64,
}

layout! { VcpuSetPeriodicTimer = "struct vcpu_set_periodic_timer", 8;
    period_ns 0
}

two_widths! {
    /// The argument of `VCPUOP_SET_SINGLESHOT_TIMER`.
    pub struct VcpuSetSingleshotTimer {
        /// Absolute system time in nanoseconds.
        pub timeout_abs_ns: u64,
        /// `VCPU_SSHOTTMR_FUTURE`: fail with ETIME if the time has passed.
        pub flags: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
    }
}

layout! { VcpuSetSingleshotTimer = "struct vcpu_set_singleshot_timer", 16, narrow 12;
    timeout_abs_ns 0, flags 8
}

/// The argument of `VCPUOP_REGISTER_VCPU_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuRegisterVcpuInfo {
    pub mfn: u64,
    pub offset: u32,
    pub rsvd: u32,
}

layout! { VcpuRegisterVcpuInfo = "struct vcpu_register_vcpu_info", 16;
    mfn 0, offset 8, rsvd 12
}

/// The argument of `VCPUOP_GET_PHYSID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuGetPhysid {
    pub phys_id: u64,
}

layout! { VcpuGetPhysid = "struct vcpu_get_physid", 8;
    phys_id 0
}

two_widths! {
    /// The argument of `VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA`.
    pub struct VcpuRegisterTimeMemoryArea {
        /// Virtual address of the area.
        pub addr: u64 => [u32; 2],
    }
}

layout! { VcpuRegisterTimeMemoryArea = "struct vcpu_register_time_memory_area", 8, narrow 8;
    addr 0 "addr.p"
}
