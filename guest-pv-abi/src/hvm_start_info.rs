//! The start information of a PVH kernel.
//!
//! Source: Xen's public header `arch-x86/hvm/start_info.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::{layout, numbers};

numbers! { NUMBERS_U32, "arch-x86/hvm/start_info.h", u32;
    XEN_HVM_START_MAGIC_VALUE = 0x336e_c578, "XEN_HVM_START_MAGIC_VALUE";
    XEN_HVM_MEMMAP_TYPE_RAM = 1, "XEN_HVM_MEMMAP_TYPE_RAM";
    XEN_HVM_MEMMAP_TYPE_RESERVED = 2, "XEN_HVM_MEMMAP_TYPE_RESERVED";
    XEN_HVM_MEMMAP_TYPE_ACPI = 3, "XEN_HVM_MEMMAP_TYPE_ACPI";
    XEN_HVM_MEMMAP_TYPE_NVS = 4, "XEN_HVM_MEMMAP_TYPE_NVS";
    XEN_HVM_MEMMAP_TYPE_UNUSABLE = 5, "XEN_HVM_MEMMAP_TYPE_UNUSABLE";
    XEN_HVM_MEMMAP_TYPE_DISABLED = 6, "XEN_HVM_MEMMAP_TYPE_DISABLED";
    XEN_HVM_MEMMAP_TYPE_PMEM = 7, "XEN_HVM_MEMMAP_TYPE_PMEM";
}

/// The start structure. A PVH kernel finds its address in ebx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmStartInfo {
    /// Must be `XEN_HVM_START_MAGIC_VALUE`.
    pub magic: u32,
    pub version: u32,
    /// A combination of `SIF_*` flags.
    pub flags: u32,
    pub nr_modules: u32,
    pub modlist_paddr: u64,
    pub cmdline_paddr: u64,
    pub rsdp_paddr: u64,
    pub memmap_paddr: u64,
    pub memmap_entries: u32,
    pub reserved: u32,
}

layout! { HvmStartInfo = "struct hvm_start_info", 56;
    magic 0, version 4, flags 8, nr_modules 12, modlist_paddr 16, cmdline_paddr 24, rsdp_paddr 32, memmap_paddr 40, memmap_entries 48, reserved 52
}

/// A module that was loaded with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmModlistEntry {
    pub paddr: u64,
    pub size: u64,
    pub cmdline_paddr: u64,
    pub reserved: u64,
}

layout! { HvmModlistEntry = "struct hvm_modlist_entry", 32;
    paddr 0, size 8, cmdline_paddr 16, reserved 24
}

/// One range of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmMemmapTableEntry {
    pub addr: u64,
    pub size: u64,
    /// The type, one of `XEN_HVM_MEMMAP_TYPE_*`.
    pub type_: u32,
    pub reserved: u32,
}

layout! { HvmMemmapTableEntry = "struct hvm_memmap_table_entry", 24;
    addr 0, size 8, type_ 16 "type", reserved 20
}
