//! nmi_op: the callback for NMIs.
//!
//! Source: Xen's public header `nmi.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use crate::form::two_widths;
use crate::layout::{layout, numbers};

numbers! { NUMBERS_U32, "nmi.h", u32;
    XEN_NMIREASON_IO_ERROR = 1, "XEN_NMIREASON_io_error";
    XEN_NMIREASON_PCI_SERR = 2, "XEN_NMIREASON_pci_serr";
    XEN_NMIREASON_UNKNOWN = 4, "XEN_NMIREASON_unknown";
    XENNMI_REGISTER_CALLBACK = 0, "XENNMI_register_callback";
    XENNMI_UNREGISTER_CALLBACK = 1, "XENNMI_unregister_callback";
}

two_widths! {
    /// The argument of `XENNMI_REGISTER_CALLBACK`.
    pub struct NmiCallback {
        pub handler_address: u64 => u32,
        pub pad: u64 => u32,
    }
}

layout! { NmiCallback = "struct xennmi_callback", 16, narrow 8;
    handler_address 0, pad 8
}
