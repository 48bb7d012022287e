//! Structures of domctl's sub-operations on devices, ports, MMIO and interrupts.
//!
//! Source: Xen's public header `domctl.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Payload;
use crate::layout::layout;

/// The argument of `XEN_DOMCTL_IRQ_PERMISSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IrqPermission {
    pub pirq: u32,
    pub allow_access: u8,
    /// Padding; must be zero.
    pub pad: [u8; 3],
}

layout! { IrqPermission = "struct xen_domctl_irq_permission", 8;
    pirq 0, allow_access 4, pad 5
}

/// The argument of `XEN_DOMCTL_GSI_PERMISSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GsiPermission {
    pub gsi: u32,
    /// One of `XEN_DOMCTL_GSI_*`.
    pub flags: u32,
}

layout! { GsiPermission = "struct xen_domctl_gsi_permission", 8;
    gsi 0, flags 4
}

/// The argument of `XEN_DOMCTL_IOMEM_PERMISSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IomemPermission {
    pub first_mfn: u64,
    pub nr_mfns: u64,
    pub allow_access: u8,
    #[doc(hidden)]
    pub _gap0: [u8; 7],
}

layout! { IomemPermission = "struct xen_domctl_iomem_permission", 24;
    first_mfn 0, nr_mfns 8, allow_access 16
}

/// The argument of `XEN_DOMCTL_IOPORT_PERMISSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoportPermission {
    pub first_port: u32,
    pub nr_ports: u32,
    pub allow_access: u8,
    #[doc(hidden)]
    pub _gap0: [u8; 3],
}

layout! { IoportPermission = "struct xen_domctl_ioport_permission", 12;
    first_port 0, nr_ports 4, allow_access 8
}

/// `XEN_DOMCTL_ASSIGN_DEVICE` and relatives, PCI arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AssignDevice {
    /// The kind of device, one of `XEN_DOMCTL_DEV_*`.
    pub dev: u32,
    pub flags: u32,
    /// For a PCI device, the first word is the machine SBDF.
    pub u: Payload<2>,
}

layout! { AssignDevice = "struct xen_domctl_assign_device", 24;
    dev 0, flags 4, u 8
}

/// The argument of `XEN_DOMCTL_MEMORY_MAPPING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryMapping {
    pub first_gfn: u64,
    pub first_mfn: u64,
    pub nr_mfns: u64,
    /// Whether to add or remove, one of `DPCI_*`.
    pub add_mapping: u32,
    /// Padding; must be zero.
    pub padding: u32,
}

layout! { MemoryMapping = "struct xen_domctl_memory_mapping", 32;
    first_gfn 0, first_mfn 8, nr_mfns 16, add_mapping 24, padding 28
}

/// The argument of `XEN_DOMCTL_IOPORT_MAPPING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoportMapping {
    pub first_gport: u32,
    pub first_mport: u32,
    pub nr_ports: u32,
    /// Whether to add or remove, one of `DPCI_*`.
    pub add_mapping: u32,
}

layout! { IoportMapping = "struct xen_domctl_ioport_mapping", 16;
    first_gport 0, first_mport 4, nr_ports 8, add_mapping 12
}

/// The argument of `XEN_DOMCTL_SET_VIRQ_HANDLER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetVirqHandler {
    pub virq: u32,
}

layout! { SetVirqHandler = "struct xen_domctl_set_virq_handler", 4;
    virq 0
}
