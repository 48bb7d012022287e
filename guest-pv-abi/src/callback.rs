//! callback_op: registers the entry points of a PV kernel.
//!
//! Source: Xen's public header `callback.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::arch_x86::narrow::Callback;
use crate::form::two_widths;
use crate::layout::{layout, numbers};

numbers! { NUMBERS_U32, "callback.h", u32;
    CALLBACKTYPE_EVENT = 0, "CALLBACKTYPE_event";
    CALLBACKTYPE_FAILSAFE = 1, "CALLBACKTYPE_failsafe";
    CALLBACKTYPE_SYSCALL = 2, "CALLBACKTYPE_syscall";
    CALLBACKTYPE_SYSENTER_DEPRECATED = 3, "CALLBACKTYPE_sysenter_deprecated";
    CALLBACKTYPE_NMI = 4, "CALLBACKTYPE_nmi";
    CALLBACKTYPE_SYSENTER = 5, "CALLBACKTYPE_sysenter";
    CALLBACKTYPE_SYSCALL32 = 7, "CALLBACKTYPE_syscall32";
    CALLBACKF_MASK_EVENTS = 1, "CALLBACKF_mask_events";
    CALLBACKOP_REGISTER = 0, "CALLBACKOP_register";
    CALLBACKOP_UNREGISTER = 1, "CALLBACKOP_unregister";
}

two_widths! {
    /// The argument of `CALLBACKOP_REGISTER`.
    pub struct CallbackRegister {
        /// The type, one of `CALLBACKTYPE_*`.
        pub type_: u16,
        /// A combination of `CALLBACKF_*` flags.
        pub flags: u16,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
        /// Address of the entry point.
        pub address: u64 => Callback,
    }
}

layout! { CallbackRegister = "struct callback_register", 16, narrow 12;
    type_ 0 "type", flags 2, address 8
}

/// The argument of `CALLBACKOP_UNREGISTER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CallbackUnregister {
    /// The type, one of `CALLBACKTYPE_*`.
    pub type_: u16,
    #[doc(hidden)]
    pub _unused: u16,
}

layout! { CallbackUnregister = "struct callback_unregister", 4;
    type_ 0 "type", _unused 2
}
