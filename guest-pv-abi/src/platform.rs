//! platform_op: operations on the machine for the hardware domain alone.
//!
//! Source: Xen's public header `platform.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::form::two_widths;
use crate::layout::{layout, numbers};
use crate::{GuestHandle, Payload};

numbers! { NUMBERS_U32, "platform.h", u32;
    XENPF_INTERFACE_VERSION = 0x0300_0001, "XENPF_INTERFACE_VERSION";
    XENPF_SETTIME32 = 17, "XENPF_settime32";
    XENPF_SETTIME64 = 62, "XENPF_settime64";
    XENPF_SETTIME = 62, "XENPF_settime";
    XENPF_ADD_MEMTYPE = 31, "XENPF_add_memtype";
    XENPF_DEL_MEMTYPE = 32, "XENPF_del_memtype";
    XENPF_READ_MEMTYPE = 33, "XENPF_read_memtype";
    XENPF_MICROCODE_UPDATE = 35, "XENPF_microcode_update";
    XENPF_PLATFORM_QUIRK = 39, "XENPF_platform_quirk";
    XENPF_EFI_RUNTIME_CALL = 49, "XENPF_efi_runtime_call";
    XENPF_FIRMWARE_INFO = 50, "XENPF_firmware_info";
    XEN_FW_DISK_INFO = 1, "XEN_FW_DISK_INFO";
    XEN_FW_DISK_MBR_SIGNATURE = 2, "XEN_FW_DISK_MBR_SIGNATURE";
    XEN_FW_VBEDDC_INFO = 3, "XEN_FW_VBEDDC_INFO";
    XEN_FW_EFI_INFO = 4, "XEN_FW_EFI_INFO";
    XEN_FW_EFI_VERSION = 0, "XEN_FW_EFI_VERSION";
    XEN_FW_EFI_CONFIG_TABLE = 1, "XEN_FW_EFI_CONFIG_TABLE";
    XEN_FW_EFI_VENDOR = 2, "XEN_FW_EFI_VENDOR";
    XEN_FW_EFI_MEM_INFO = 3, "XEN_FW_EFI_MEM_INFO";
    XEN_FW_EFI_RT_VERSION = 4, "XEN_FW_EFI_RT_VERSION";
    XEN_FW_EFI_PCI_ROM = 5, "XEN_FW_EFI_PCI_ROM";
    XEN_FW_EFI_APPLE_PROPERTIES = 6, "XEN_FW_EFI_APPLE_PROPERTIES";
    XEN_FW_KBD_SHIFT_FLAGS = 5, "XEN_FW_KBD_SHIFT_FLAGS";
    XENPF_ENTER_ACPI_SLEEP = 51, "XENPF_enter_acpi_sleep";
    XENPF_ACPI_SLEEP_EXTENDED = 1, "XENPF_ACPI_SLEEP_EXTENDED";
    XENPF_CHANGE_FREQ = 52, "XENPF_change_freq";
    XENPF_GETIDLETIME = 53, "XENPF_getidletime";
    XENPF_SET_PROCESSOR_PMINFO = 54, "XENPF_set_processor_pminfo";
    XEN_PROCESSOR_PM_CX = 1, "XEN_PROCESSOR_PM_CX";
    XEN_PROCESSOR_PM_PX = 2, "XEN_PROCESSOR_PM_PX";
    XEN_PROCESSOR_PM_TX = 4, "XEN_PROCESSOR_PM_TX";
    XEN_PM_CX = 0, "XEN_PM_CX";
    XEN_PM_PX = 1, "XEN_PM_PX";
    XEN_PM_TX = 2, "XEN_PM_TX";
    XEN_PM_PDC = 3, "XEN_PM_PDC";
    XEN_PX_PCT = 1, "XEN_PX_PCT";
    XEN_PX_PSS = 2, "XEN_PX_PSS";
    XEN_PX_PPC = 4, "XEN_PX_PPC";
    XEN_PX_PSD = 8, "XEN_PX_PSD";
    XEN_CPUPERF_SHARED_TYPE_HW = 1, "XEN_CPUPERF_SHARED_TYPE_HW";
    XEN_CPUPERF_SHARED_TYPE_ALL = 2, "XEN_CPUPERF_SHARED_TYPE_ALL";
    XEN_CPUPERF_SHARED_TYPE_ANY = 3, "XEN_CPUPERF_SHARED_TYPE_ANY";
    XENPF_GET_CPUINFO = 55, "XENPF_get_cpuinfo";
    XEN_PCPU_FLAGS_ONLINE = 1, "XEN_PCPU_FLAGS_ONLINE";
    XEN_PCPU_FLAGS_INVALID = 2, "XEN_PCPU_FLAGS_INVALID";
    XENPF_GET_CPU_VERSION = 48, "XENPF_get_cpu_version";
    XENPF_CPU_ONLINE = 56, "XENPF_cpu_online";
    XENPF_CPU_OFFLINE = 57, "XENPF_cpu_offline";
    XENPF_CPU_HOTADD = 58, "XENPF_cpu_hotadd";
    XENPF_MEM_HOTADD = 59, "XENPF_mem_hotadd";
    XENPF_CORE_PARKING = 60, "XENPF_core_parking";
    XEN_CORE_PARKING_SET = 1, "XEN_CORE_PARKING_SET";
    XEN_CORE_PARKING_GET = 2, "XEN_CORE_PARKING_GET";
    XENPF_RESOURCE_OP = 61, "XENPF_resource_op";
    XEN_RESOURCE_OP_MSR_READ = 0, "XEN_RESOURCE_OP_MSR_READ";
    XEN_RESOURCE_OP_MSR_WRITE = 1, "XEN_RESOURCE_OP_MSR_WRITE";
    XENPF_GET_SYMBOL = 63, "XENPF_get_symbol";
    XENPF_GET_DOM0_CONSOLE = 64, "XENPF_get_dom0_console";
    XENPF_GET_UCODE_REVISION = 65, "XENPF_get_ucode_revision";
    XENPF_MICROCODE_UPDATE2 = 66, "XENPF_microcode_update2";
    XENPF_UCODE_FORCE = 1, "XENPF_UCODE_FORCE";
}

/// The argument of platform_op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PlatformOp {
    /// The sub-operation, one of `XENPF_*`.
    pub cmd: u32,
    /// Must be `XENPF_INTERFACE_VERSION`.
    pub interface_version: u32,
    /// The structure of the sub-operation.
    pub u: Payload<16>,
}

layout! { PlatformOp = "struct xen_platform_op", 136;
    cmd 0, interface_version 4, u 8
}

/// The argument of `XENPF_SETTIME32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settime32 {
    pub secs: u32,
    pub nsecs: u32,
    pub system_time: u64,
}

layout! { Settime32 = "struct xenpf_settime32", 16;
    secs 0, nsecs 4, system_time 8
}

/// The argument of `XENPF_SETTIME64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settime64 {
    pub secs: u64,
    pub nsecs: u32,
    /// Reserved, must be zero.
    pub mbz: u32,
    pub system_time: u64,
}

layout! { Settime64 = "struct xenpf_settime64", 24;
    secs 0, nsecs 8, mbz 12, system_time 16
}

two_widths! {
    /// The argument of `XENPF_ADD_MEMTYPE`.
    pub struct AddMemtype {
        pub mfn: u64 => u32,
        pub nr_mfns: u64,
        pub type_: u32,
        /// Out: the handle by which to delete it.
        pub handle: u32,
        /// Out: number of the register that is used.
        pub reg: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
    }
}

layout! { AddMemtype = "struct xenpf_add_memtype", 32, narrow 24;
    mfn 0, nr_mfns 8, type_ 16 "type", handle 20, reg 24
}

/// The argument of `XENPF_DEL_MEMTYPE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DelMemtype {
    pub handle: u32,
    pub reg: u32,
}

layout! { DelMemtype = "struct xenpf_del_memtype", 8;
    handle 0, reg 4
}

two_widths! {
    /// The argument of `XENPF_READ_MEMTYPE`.
    pub struct ReadMemtype {
        pub reg: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
        pub mfn: u64 => u32,
        pub nr_mfns: u64,
        pub type_: u32,
        #[doc(hidden)]
        pub _gap1: [u8; 4] => [u8; 0],
    }
}

layout! { ReadMemtype = "struct xenpf_read_memtype", 32, narrow 20;
    reg 0, mfn 8, nr_mfns 16, type_ 24 "type"
}

two_widths! {
    /// The argument of `XENPF_FIRMWARE_INFO`.
    pub struct FirmwareInfo {
        /// The type, one of `XEN_FW_*`.
        pub type_: u32,
        pub index: u32,
        pub u: Payload<4> => Payload<7, u32>,
    }
}

layout! { FirmwareInfo = "struct xenpf_firmware_info", 40, narrow 36;
    type_ 0 "type", index 4, u 8
}

two_widths! {
    /// `XEN_FW_EFI_CONFIG_TABLE`, a member of `union xenpf_efi_info`.
    pub struct EfiConfigTable {
        /// Out: address of an array of `EFI_CONFIGURATION_TABLE`.
        pub addr: u64,
        /// Out: number of entries in the array.
        pub nent: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
    }
}

two_widths! {
    /// The argument of `XEN_FW_EFI_VENDOR`.
    pub struct EfiVendor {
        /// Out: revision of the firmware.
        pub revision: u32,
        /// In: number of bytes at `name`.
        pub bufsz: u32,
        /// Pointer to a buffer for the UTF-16 name.
        pub name: GuestHandle,
    }
}

two_widths! {
    /// The argument of `XEN_FW_EFI_MEM_INFO`.
    pub struct EfiMemory {
        pub addr: u64,
        pub size: u64,
        pub attr: u64,
        pub type_: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
    }
}

two_widths! {
    /// `XENPF_SET_PROCESSOR_PMINFO`, with the short members of its union.
    pub struct SetProcessorPminfo {
        pub id: u32,
        /// The type, one of `XEN_PM_*`.
        pub type_: u32,
        /// `XEN_PM_PDC`: pointer to the words of `_PDC`.
        pub pdc: GuestHandle,
        #[doc(hidden)]
        pub _gap0: [u8; 96] => [u8; 88],
    }
}

layout! { SetProcessorPminfo = "struct xenpf_set_processor_pminfo", 112, narrow 100;
    id 0, type_ 4 "type", pdc 8 "u.pdc"
}

/// The argument of `XENPF_ENTER_ACPI_SLEEP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EnterAcpiSleep {
    pub val_a: u16,
    pub val_b: u16,
    pub sleep_state: u32,
    pub flags: u32,
}

layout! { EnterAcpiSleep = "struct xenpf_enter_acpi_sleep", 12;
    val_a 0, val_b 2, sleep_state 4, flags 8
}

two_widths! {
    /// The argument of `XENPF_GETIDLETIME`.
    pub struct Getidletime {
        pub cpumap_bitmap: GuestHandle,
        pub cpumap_nr_cpus: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
        pub idletime: GuestHandle,
        /// Out: system time of the reading in nanoseconds.
        pub now: u64,
    }
}

layout! { Getidletime = "struct xenpf_getidletime", 32, narrow 20;
    cpumap_bitmap 0, cpumap_nr_cpus 8, idletime 16, now 24
}

/// The argument of `XENPF_GET_CPUINFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PcpuInfo {
    pub xen_cpuid: u32,
    /// Out: highest CPU number that is present.
    pub max_present: u32,
    /// Out: a combination of `XEN_PCPU_FLAGS_*` flags.
    pub flags: u32,
    /// Out: APIC id of the CPU.
    pub apic_id: u32,
    /// Out: ACPI id of the CPU.
    pub acpi_id: u32,
}

layout! { PcpuInfo = "struct xenpf_pcpuinfo", 20;
    xen_cpuid 0, max_present 4, flags 8, apic_id 12, acpi_id 16
}

/// The argument of `XENPF_GET_CPU_VERSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PcpuVersion {
    pub xen_cpuid: u32,
    pub max_present: u32,
    pub vendor_id: [u8; 12],
    pub family: u32,
    pub model: u32,
    pub stepping: u32,
}

layout! { PcpuVersion = "struct xenpf_pcpu_version", 32;
    xen_cpuid 0, max_present 4, vendor_id 8, family 20, model 24, stepping 28
}

/// The argument of `XENPF_CPU_ONLINE` and `XENPF_CPU_OFFLINE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuOl {
    pub cpuid: u32,
}

layout! { CpuOl = "struct xenpf_cpu_ol", 4;
    cpuid 0
}

/// The argument of `XENPF_CPU_HOTADD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuHotadd {
    pub apic_id: u32,
    pub acpi_id: u32,
    pub pxm: u32,
}

layout! { CpuHotadd = "struct xenpf_cpu_hotadd", 12;
    apic_id 0, acpi_id 4, pxm 8
}

/// The argument of `XENPF_MEM_HOTADD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemHotadd {
    pub spfn: u64,
    pub epfn: u64,
    pub pxm: u32,
    pub flags: u32,
}

layout! { MemHotadd = "struct xenpf_mem_hotadd", 24;
    spfn 0, epfn 8, pxm 16, flags 20
}

/// The argument of `XENPF_CORE_PARKING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CoreParking {
    pub type_: u32,
    pub idle_nums: u32,
}

layout! { CoreParking = "struct xenpf_core_parking", 8;
    type_ 0 "type", idle_nums 4
}

/// One access of `ResourceOp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ResourceEntry {
    /// In: `XEN_RESOURCE_OP_*`; out: result.
    pub cmd: u32,
    pub rsvd: u32,
    pub idx: u64,
    pub val: u64,
}

layout! { ResourceEntry = "struct xenpf_resource_entry", 24;
    cmd 0 "u.cmd", rsvd 4, idx 8, val 16
}

two_widths! {
    /// The argument of `XENPF_RESOURCE_OP`.
    pub struct ResourceOp {
        pub nr_entries: u32,
        pub cpu: u32,
        pub entries: GuestHandle,
    }
}

layout! { ResourceOp = "struct xenpf_resource_op", 16, narrow 12;
    nr_entries 0, cpu 4, entries 8
}

two_widths! {
    /// The argument of `XENPF_GET_SYMBOL`.
    pub struct Symdata {
        pub namelen: u32,
        pub symnum: u32,
        pub name: GuestHandle,
        pub address: u64,
        pub type_: u8,
        #[doc(hidden)]
        pub _gap0: [u8; 7] => [u8; 3],
    }
}

layout! { Symdata = "struct xenpf_symdata", 32, narrow 24;
    namelen 0, symnum 4, name 8, address 16, type_ 24 "type"
}

/// The argument of `XENPF_GET_UCODE_REVISION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UcodeRevision {
    pub cpu: u32,
    pub signature: u32,
    pub pf: u32,
    pub revision: u32,
}

layout! { UcodeRevision = "struct xenpf_ucode_revision", 16;
    cpu 0, signature 4, pf 8, revision 12
}

two_widths! {
    /// The argument of `XENPF_MICROCODE_UPDATE`.
    pub struct MicrocodeUpdate {
        pub data: GuestHandle,
        pub length: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
    }
}

layout! { MicrocodeUpdate = "struct xenpf_microcode_update", 16, narrow 8;
    data 0, length 8
}

two_widths! {
    /// The argument of `XENPF_MICROCODE_UPDATE2`.
    pub struct MicrocodeUpdate2 {
        /// `XENPF_UCODE_FORCE` or 0.
        pub flags: u32,
        pub length: u32,
        pub data: GuestHandle,
    }
}

layout! { MicrocodeUpdate2 = "struct xenpf_microcode_update2", 16, narrow 12;
    flags 0, length 4, data 8
}
