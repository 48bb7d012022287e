//! physdev_op: physical interrupts, PCI devices and I/O privilege.
//!
//! Source: Xen's public header `physdev.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;
use crate::form::two_widths;
use crate::layout::{layout, numbers};

numbers! { NUMBERS_U32, "physdev.h", u32;
    PHYSDEVOP_EOI = 12, "PHYSDEVOP_eoi";
    PHYSDEVOP_PIRQ_EOI_GMFN_V1 = 17, "PHYSDEVOP_pirq_eoi_gmfn_v1";
    PHYSDEVOP_PIRQ_EOI_GMFN_V2 = 28, "PHYSDEVOP_pirq_eoi_gmfn_v2";
    PHYSDEVOP_IRQ_STATUS_QUERY = 5, "PHYSDEVOP_irq_status_query";
    XENIRQSTAT_NEEDS_EOI = 1, "XENIRQSTAT_needs_eoi";
    XENIRQSTAT_SHARED = 2, "XENIRQSTAT_shared";
    PHYSDEVOP_SET_IOPL = 6, "PHYSDEVOP_set_iopl";
    PHYSDEVOP_SET_IOBITMAP = 7, "PHYSDEVOP_set_iobitmap";
    PHYSDEVOP_APIC_READ = 8, "PHYSDEVOP_apic_read";
    PHYSDEVOP_APIC_WRITE = 9, "PHYSDEVOP_apic_write";
    PHYSDEVOP_ALLOC_IRQ_VECTOR = 10, "PHYSDEVOP_alloc_irq_vector";
    PHYSDEVOP_FREE_IRQ_VECTOR = 11, "PHYSDEVOP_free_irq_vector";
    MAP_PIRQ_TYPE_MSI = 0, "MAP_PIRQ_TYPE_MSI";
    MAP_PIRQ_TYPE_GSI = 1, "MAP_PIRQ_TYPE_GSI";
    MAP_PIRQ_TYPE_UNKNOWN = 2, "MAP_PIRQ_TYPE_UNKNOWN";
    MAP_PIRQ_TYPE_MSI_SEG = 3, "MAP_PIRQ_TYPE_MSI_SEG";
    MAP_PIRQ_TYPE_MULTI_MSI = 4, "MAP_PIRQ_TYPE_MULTI_MSI";
    PHYSDEVOP_MAP_PIRQ = 13, "PHYSDEVOP_map_pirq";
    PHYSDEVOP_UNMAP_PIRQ = 14, "PHYSDEVOP_unmap_pirq";
    PHYSDEVOP_MANAGE_PCI_ADD = 15, "PHYSDEVOP_manage_pci_add";
    PHYSDEVOP_MANAGE_PCI_REMOVE = 16, "PHYSDEVOP_manage_pci_remove";
    PHYSDEVOP_RESTORE_MSI = 19, "PHYSDEVOP_restore_msi";
    PHYSDEVOP_MANAGE_PCI_ADD_EXT = 20, "PHYSDEVOP_manage_pci_add_ext";
    PHYSDEVOP_SETUP_GSI = 21, "PHYSDEVOP_setup_gsi";
    PHYSDEVOP_GET_FREE_PIRQ = 23, "PHYSDEVOP_get_free_pirq";
    XEN_PCI_MMCFG_RESERVED = 1, "XEN_PCI_MMCFG_RESERVED";
    PHYSDEVOP_PCI_MMCFG_RESERVED = 24, "PHYSDEVOP_pci_mmcfg_reserved";
    XEN_PCI_DEV_EXTFN = 1, "XEN_PCI_DEV_EXTFN";
    XEN_PCI_DEV_VIRTFN = 2, "XEN_PCI_DEV_VIRTFN";
    XEN_PCI_DEV_PXM = 4, "XEN_PCI_DEV_PXM";
    PHYSDEVOP_PCI_DEVICE_ADD = 25, "PHYSDEVOP_pci_device_add";
    PHYSDEVOP_PCI_DEVICE_REMOVE = 26, "PHYSDEVOP_pci_device_remove";
    PHYSDEVOP_RESTORE_MSI_EXT = 27, "PHYSDEVOP_restore_msi_ext";
    PHYSDEVOP_PREPARE_MSIX = 30, "PHYSDEVOP_prepare_msix";
    PHYSDEVOP_RELEASE_MSIX = 31, "PHYSDEVOP_release_msix";
    PHYSDEVOP_PCI_DEVICE_RESET = 32, "PHYSDEVOP_pci_device_reset";
    PCI_DEVICE_RESET_COLD = 0, "PCI_DEVICE_RESET_COLD";
    PCI_DEVICE_RESET_WARM = 1, "PCI_DEVICE_RESET_WARM";
    PCI_DEVICE_RESET_HOT = 2, "PCI_DEVICE_RESET_HOT";
    PCI_DEVICE_RESET_FLR = 3, "PCI_DEVICE_RESET_FLR";
    PCI_DEVICE_RESET_MASK = 3, "PCI_DEVICE_RESET_MASK";
    PHYSDEVOP_DBGP_RESET_PREPARE = 1, "PHYSDEVOP_DBGP_RESET_PREPARE";
    PHYSDEVOP_DBGP_RESET_DONE = 2, "PHYSDEVOP_DBGP_RESET_DONE";
    PHYSDEVOP_DBGP_BUS_UNKNOWN = 0, "PHYSDEVOP_DBGP_BUS_UNKNOWN";
    PHYSDEVOP_DBGP_BUS_PCI = 1, "PHYSDEVOP_DBGP_BUS_PCI";
    PHYSDEVOP_DBGP_OP = 29, "PHYSDEVOP_dbgp_op";
    PHYSDEVOP_IRQ_UNMASK_NOTIFY = 4, "PHYSDEVOP_IRQ_UNMASK_NOTIFY";
    PHYSDEVOP_PIRQ_EOI_GMFN = 28, "PHYSDEVOP_pirq_eoi_gmfn";
}

/// The argument of `PHYSDEVOP_EOI`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevEoi {
    pub irq: u32,
}

layout! { PhysdevEoi = "struct physdev_eoi", 4;
    irq 0
}

two_widths! {
    /// The argument of `PHYSDEVOP_PIRQ_EOI_GMFN_V1` and `_V2`.
    pub struct PhysdevPirqEoiGmfn {
        pub gmfn: u64 => u32,
    }
}

layout! { PhysdevPirqEoiGmfn = "struct physdev_pirq_eoi_gmfn", 8, narrow 4;
    gmfn 0
}

/// The argument of `PHYSDEVOP_IRQ_STATUS_QUERY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevIrqStatusQuery {
    pub irq: u32,
    /// Out: a combination of `XENIRQSTAT_*` flags.
    pub flags: u32,
}

layout! { PhysdevIrqStatusQuery = "struct physdev_irq_status_query", 8;
    irq 0, flags 4
}

/// The argument of `PHYSDEVOP_SET_IOPL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevSetIopl {
    pub iopl: u32,
}

layout! { PhysdevSetIopl = "struct physdev_set_iopl", 4;
    iopl 0
}

two_widths! {
    /// The argument of `PHYSDEVOP_SET_IOBITMAP`.
    pub struct PhysdevSetIobitmap {
        pub bitmap: GuestHandle,
        pub nr_ports: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
    }
}

layout! { PhysdevSetIobitmap = "struct physdev_set_iobitmap", 16, narrow 8;
    bitmap 0, nr_ports 8
}

two_widths! {
    /// The argument of `PHYSDEVOP_APIC_READ` and `PHYSDEVOP_APIC_WRITE`.
    pub struct PhysdevApic {
        pub apic_physbase: u64 => u32,
        pub reg: u32,
        pub value: u32,
    }
}

layout! { PhysdevApic = "struct physdev_apic", 16, narrow 12;
    apic_physbase 0, reg 8, value 12
}

/// The argument of `PHYSDEVOP_ALLOC_IRQ_VECTOR` and `PHYSDEVOP_FREE_IRQ_VECTOR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevIrq {
    pub irq: u32,
    pub vector: u32,
}

layout! { PhysdevIrq = "struct physdev_irq", 8;
    irq 0, vector 4
}

two_widths! {
    /// The argument of `PHYSDEVOP_MAP_PIRQ`.
    pub struct PhysdevMapPirq {
        pub domid: u16,
        #[doc(hidden)]
        pub _gap0: [u8; 2],
        /// The type, one of `MAP_PIRQ_TYPE_*`.
        pub type_: i32,
        pub index: i32,
        /// The domain's interrupt number; in (-1: any) and out.
        pub pirq: i32,
        pub bus: i32,
        pub devfn: i32,
        pub entry_nr: i32,
        #[doc(hidden)]
        pub _gap1: [u8; 4] => [u8; 0],
        pub table_base: u64,
    }
}

layout! { PhysdevMapPirq = "struct physdev_map_pirq", 40, narrow 36;
    domid 0, type_ 4 "type", index 8, pirq 12, bus 16, devfn 20, entry_nr 24, table_base 32
}

/// The argument of `PHYSDEVOP_UNMAP_PIRQ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevUnmapPirq {
    pub domid: u16,
    #[doc(hidden)]
    pub _gap0: [u8; 2],
    pub pirq: i32,
}

layout! { PhysdevUnmapPirq = "struct physdev_unmap_pirq", 8;
    domid 0, pirq 4
}

/// The argument of `PHYSDEVOP_MANAGE_PCI_ADD` and `_REMOVE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevManagePci {
    pub bus: u8,
    pub devfn: u8,
}

layout! { PhysdevManagePci = "struct physdev_manage_pci", 2;
    bus 0, devfn 1
}

/// The argument of `PHYSDEVOP_MANAGE_PCI_ADD_EXT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevManagePciExt {
    pub bus: u8,
    pub devfn: u8,
    #[doc(hidden)]
    pub _gap0: [u8; 2],
    pub is_extfn: u32,
    pub is_virtfn: u32,
    pub physfn_bus: u8,
    pub physfn_devfn: u8,
    #[doc(hidden)]
    pub _gap1: [u8; 2],
}

layout! { PhysdevManagePciExt = "struct physdev_manage_pci_ext", 16;
    bus 0, devfn 1, is_extfn 4, is_virtfn 8, physfn_bus 12 "physfn.bus", physfn_devfn 13 "physfn.devfn"
}

/// The argument of `PHYSDEVOP_SETUP_GSI`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevSetupGsi {
    pub gsi: i32,
    /// Edge-triggered (0) or level-triggered (1).
    pub triggering: u8,
    /// Active high (0) or active low (1).
    pub polarity: u8,
    #[doc(hidden)]
    pub _gap0: [u8; 2],
}

layout! { PhysdevSetupGsi = "struct physdev_setup_gsi", 8;
    gsi 0, triggering 4, polarity 5
}

/// The argument of `PHYSDEVOP_GET_FREE_PIRQ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevGetFreePirq {
    pub type_: i32,
    /// Out: a free interrupt number of the domain.
    pub pirq: u32,
}

layout! { PhysdevGetFreePirq = "struct physdev_get_free_pirq", 8;
    type_ 0 "type", pirq 4
}

/// The argument of `PHYSDEVOP_PCI_MMCFG_RESERVED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevPciMmcfgReserved {
    pub address: u64,
    pub segment: u16,
    pub start_bus: u8,
    pub end_bus: u8,
    pub flags: u32,
}

layout! { PhysdevPciMmcfgReserved = "struct physdev_pci_mmcfg_reserved", 16;
    address 0, segment 8, start_bus 10, end_bus 11, flags 12
}

/// `PHYSDEVOP_PCI_DEVICE_ADD`, without its optional tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevPciDeviceAdd {
    pub seg: u16,
    pub bus: u8,
    pub devfn: u8,
    /// A combination of `XEN_PCI_DEV_*` flags.
    pub flags: u32,
    pub physfn_bus: u8,
    pub physfn_devfn: u8,
    #[doc(hidden)]
    pub _gap0: [u8; 2],
}

layout! { PhysdevPciDeviceAdd = "struct physdev_pci_device_add", 12;
    seg 0, bus 2, devfn 3, flags 4, physfn_bus 8 "physfn.bus", physfn_devfn 9 "physfn.devfn"
}

/// Address of a PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevPciDevice {
    pub seg: u16,
    pub bus: u8,
    pub devfn: u8,
}

layout! { PhysdevPciDevice = "struct physdev_pci_device", 4;
    seg 0, bus 2, devfn 3
}

/// The argument of `PHYSDEVOP_DBGP_OP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysdevDbgpOp {
    pub op: u8,
    pub bus: u8,
    pub pci: PhysdevPciDevice,
}

layout! { PhysdevDbgpOp = "struct physdev_dbgp_op", 6;
    op 0, bus 1, pci 2 "u.pci"
}

two_widths! {
    /// The argument of the old physdev_op_compat.
    pub struct PhysdevOp {
        pub cmd: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
        pub u: [u64; 2] => [u32; 3],
    }
}

layout! { PhysdevOp = "struct physdev_op", 24, narrow 16;
    cmd 0, u 8
}
