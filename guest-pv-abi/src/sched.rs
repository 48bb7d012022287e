//! sched_op: yield, block, poll and shutdown.
//!
//! Source: Xen's public header `sched.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;
use crate::form::two_widths;
use crate::layout::{layout, numbers};

numbers! { NUMBERS_U32, "sched.h", u32;
    SCHEDOP_YIELD = 0, "SCHEDOP_yield";
    SCHEDOP_BLOCK = 1, "SCHEDOP_block";
    SCHEDOP_SHUTDOWN = 2, "SCHEDOP_shutdown";
    SCHEDOP_POLL = 3, "SCHEDOP_poll";
    SCHEDOP_REMOTE_SHUTDOWN = 4, "SCHEDOP_remote_shutdown";
    SCHEDOP_SHUTDOWN_CODE = 5, "SCHEDOP_shutdown_code";
    SCHEDOP_WATCHDOG = 6, "SCHEDOP_watchdog";
    SCHEDOP_PIN_OVERRIDE = 7, "SCHEDOP_pin_override";
    SHUTDOWN_POWEROFF = 0, "SHUTDOWN_poweroff";
    SHUTDOWN_REBOOT = 1, "SHUTDOWN_reboot";
    SHUTDOWN_SUSPEND = 2, "SHUTDOWN_suspend";
    SHUTDOWN_CRASH = 3, "SHUTDOWN_crash";
    SHUTDOWN_WATCHDOG = 4, "SHUTDOWN_watchdog";
    SHUTDOWN_SOFT_RESET = 5, "SHUTDOWN_soft_reset";
    SHUTDOWN_MAX = 5, "SHUTDOWN_MAX";
}

/// The argument of `SCHEDOP_SHUTDOWN` and `SCHEDOP_SHUTDOWN_CODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedShutdown {
    /// The reason, one of `SHUTDOWN_*`.
    pub reason: u32,
}

layout! { SchedShutdown = "struct sched_shutdown", 4;
    reason 0
}

two_widths! {
    /// The argument of `SCHEDOP_POLL`.
    pub struct SchedPoll {
        /// Pointer to an array of 32-bit port numbers.
        pub ports: GuestHandle,
        pub nr_ports: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
        /// Absolute system time in nanoseconds; 0: no timeout.
        pub timeout: u64,
    }
}

layout! { SchedPoll = "struct sched_poll", 24, narrow 16;
    ports 0, nr_ports 8, timeout 16
}

/// The argument of `SCHEDOP_REMOTE_SHUTDOWN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedRemoteShutdown {
    pub domain_id: u16,
    #[doc(hidden)]
    pub _gap0: [u8; 2],
    pub reason: u32,
}

layout! { SchedRemoteShutdown = "struct sched_remote_shutdown", 8;
    domain_id 0, reason 4
}

/// The argument of `SCHEDOP_WATCHDOG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedWatchdog {
    /// Id of the watchdog; 0 creates one.
    pub id: u32,
    /// Timeout in seconds; 0 removes the watchdog.
    pub timeout: u32,
}

layout! { SchedWatchdog = "struct sched_watchdog", 8;
    id 0, timeout 4
}

/// The argument of `SCHEDOP_PIN_OVERRIDE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedPinOverride {
    pub pcpu: i32,
}

layout! { SchedPinOverride = "struct sched_pin_override", 4;
    pcpu 0
}
