//! memory_op: reservations, memory maps and resources.
//!
//! Source: Xen's public header `memory.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::form::{same_form, two_widths};
use crate::layout::{layout, numbers};
use crate::{GuestHandle, GuestHandle64};

numbers! { NUMBERS_U32, "memory.h", u32;
    XENMEM_INCREASE_RESERVATION = 0, "XENMEM_increase_reservation";
    XENMEM_DECREASE_RESERVATION = 1, "XENMEM_decrease_reservation";
    XENMEM_POPULATE_PHYSMAP = 6, "XENMEM_populate_physmap";
    XENMEMF_POPULATE_ON_DEMAND = 0x0001_0000, "XENMEMF_populate_on_demand";
    XENMEMF_EXACT_NODE_REQUEST = 0x0002_0000, "XENMEMF_exact_node_request";
    XENMEMF_VNODE = 0x0004_0000, "XENMEMF_vnode";
    XENMEM_EXCHANGE = 11, "XENMEM_exchange";
    XENMEM_MAXIMUM_RAM_PAGE = 2, "XENMEM_maximum_ram_page";
    XENMEM_CURRENT_RESERVATION = 3, "XENMEM_current_reservation";
    XENMEM_MAXIMUM_RESERVATION = 4, "XENMEM_maximum_reservation";
    XENMEM_MAXIMUM_GPFN = 14, "XENMEM_maximum_gpfn";
    XENMEM_MACHPHYS_MFN_LIST = 5, "XENMEM_machphys_mfn_list";
    XENMEM_MACHPHYS_COMPAT_MFN_LIST = 25, "XENMEM_machphys_compat_mfn_list";
    XENMEM_MACHPHYS_MAPPING = 12, "XENMEM_machphys_mapping";
    XENMAPSPACE_SHARED_INFO = 0, "XENMAPSPACE_shared_info";
    XENMAPSPACE_GRANT_TABLE = 1, "XENMAPSPACE_grant_table";
    XENMAPSPACE_GMFN = 2, "XENMAPSPACE_gmfn";
    XENMAPSPACE_GMFN_RANGE = 3, "XENMAPSPACE_gmfn_range";
    XENMAPSPACE_GMFN_FOREIGN = 4, "XENMAPSPACE_gmfn_foreign";
    XENMAPSPACE_DEV_MMIO = 5, "XENMAPSPACE_dev_mmio";
    XENMEM_ADD_TO_PHYSMAP = 7, "XENMEM_add_to_physmap";
    XENMAPIDX_GRANT_TABLE_STATUS = 0x8000_0000, "XENMAPIDX_grant_table_status";
    XENMEM_ADD_TO_PHYSMAP_BATCH = 23, "XENMEM_add_to_physmap_batch";
    XENMEM_REMOVE_FROM_PHYSMAP = 15, "XENMEM_remove_from_physmap";
    XENMEM_MEMORY_MAP = 9, "XENMEM_memory_map";
    XENMEM_MACHINE_MEMORY_MAP = 10, "XENMEM_machine_memory_map";
    XENMEM_SET_MEMORY_MAP = 13, "XENMEM_set_memory_map";
    XENMEM_SET_POD_TARGET = 16, "XENMEM_set_pod_target";
    XENMEM_GET_POD_TARGET = 17, "XENMEM_get_pod_target";
    XENMEM_GET_SHARING_FREED_PAGES = 18, "XENMEM_get_sharing_freed_pages";
    XENMEM_GET_SHARING_SHARED_PAGES = 19, "XENMEM_get_sharing_shared_pages";
    XENMEM_PAGING_OP = 20, "XENMEM_paging_op";
    XENMEM_PAGING_OP_NOMINATE = 0, "XENMEM_paging_op_nominate";
    XENMEM_PAGING_OP_EVICT = 1, "XENMEM_paging_op_evict";
    XENMEM_PAGING_OP_PREP = 2, "XENMEM_paging_op_prep";
    XENMEM_ACCESS_OP = 21, "XENMEM_access_op";
    XENMEM_ACCESS_OP_SET_ACCESS = 0, "XENMEM_access_op_set_access";
    XENMEM_ACCESS_OP_GET_ACCESS = 1, "XENMEM_access_op_get_access";
    XENMEM_ACCESS_OP_SET_ACCESS_MULTI = 4, "XENMEM_access_op_set_access_multi";
    XENMEM_SHARING_OP = 22, "XENMEM_sharing_op";
    XENMEM_SHARING_OP_NOMINATE_GFN = 0, "XENMEM_sharing_op_nominate_gfn";
    XENMEM_SHARING_OP_NOMINATE_GREF = 1, "XENMEM_sharing_op_nominate_gref";
    XENMEM_SHARING_OP_SHARE = 2, "XENMEM_sharing_op_share";
    XENMEM_SHARING_OP_DEBUG_GFN = 3, "XENMEM_sharing_op_debug_gfn";
    XENMEM_SHARING_OP_DEBUG_MFN = 4, "XENMEM_sharing_op_debug_mfn";
    XENMEM_SHARING_OP_DEBUG_GREF = 5, "XENMEM_sharing_op_debug_gref";
    XENMEM_SHARING_OP_ADD_PHYSMAP = 6, "XENMEM_sharing_op_add_physmap";
    XENMEM_SHARING_OP_AUDIT = 7, "XENMEM_sharing_op_audit";
    XENMEM_SHARING_OP_RANGE_SHARE = 8, "XENMEM_sharing_op_range_share";
    XENMEM_SHARING_OP_FORK = 9, "XENMEM_sharing_op_fork";
    XENMEM_SHARING_OP_FORK_RESET = 10, "XENMEM_sharing_op_fork_reset";
    XENMEM_FORK_WITH_IOMMU_ALLOWED = 1, "XENMEM_FORK_WITH_IOMMU_ALLOWED";
    XENMEM_FORK_BLOCK_INTERRUPTS = 2, "XENMEM_FORK_BLOCK_INTERRUPTS";
    XENMEM_FORK_RESET_STATE = 4, "XENMEM_FORK_RESET_STATE";
    XENMEM_FORK_RESET_MEMORY = 8, "XENMEM_FORK_RESET_MEMORY";
    XENMEM_CLAIM_PAGES = 24, "XENMEM_claim_pages";
    XENMEM_RESERVED_DEVICE_MEMORY_MAP = 27, "XENMEM_reserved_device_memory_map";
    XENMEM_RDM_ALL = 1, "XENMEM_RDM_ALL";
    XENMEM_ACQUIRE_RESOURCE = 28, "XENMEM_acquire_resource";
    XENMEM_RESOURCE_IOREQ_SERVER = 0, "XENMEM_resource_ioreq_server";
    XENMEM_RESOURCE_GRANT_TABLE = 1, "XENMEM_resource_grant_table";
    XENMEM_RESOURCE_VMTRACE_BUF = 2, "XENMEM_resource_vmtrace_buf";
    XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED = 0, "XENMEM_resource_grant_table_id_shared";
    XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS = 1, "XENMEM_resource_grant_table_id_status";
    XENMEM_RESOURCE_IOREQ_SERVER_FRAME_BUFIOREQ = 0, "XENMEM_resource_ioreq_server_frame_bufioreq";
    XENMEM_GET_VNUMAINFO = 26, "XENMEM_get_vnumainfo";
}

numbers! { NUMBERS_I64, "memory.h", i64;
    XENMEM_SHARING_OP_S_HANDLE_INVALID = -10, "XENMEM_SHARING_OP_S_HANDLE_INVALID";
    XENMEM_SHARING_OP_C_HANDLE_INVALID = -9, "XENMEM_SHARING_OP_C_HANDLE_INVALID";
}

numbers! { NUMBERS_U64, "memory.h", u64;
    XENMEM_SHARING_OP_FIELD_IS_GREF_FLAG = 0x4000_0000_0000_0000, "XENMEM_SHARING_OP_FIELD_IS_GREF_FLAG";
}

two_widths! {
    /// The argument of increase_reservation, decrease_reservation and populate_physmap.
    pub struct MemoryReservation {
        /// Pointer to frame numbers, in and out.
        pub extent_start: GuestHandle,
        pub nr_extents: u64 => u32,
        /// log2 of an extent's size in pages.
        pub extent_order: u32,
        /// `XENMEMF_*` flags; the low byte limits the address bits.
        pub mem_flags: u32,
        pub domid: u16,
        #[doc(hidden)]
        pub _gap0: [u8; 6] => [u8; 2],
    }
}

layout! { MemoryReservation = "struct xen_memory_reservation", 32, narrow 20;
    extent_start 0, nr_extents 8, extent_order 16, mem_flags 20, domid 24
}

two_widths! {
    /// The argument of `XENMEM_EXCHANGE`.
    pub struct MemoryExchange {
        pub in_: MemoryReservation,
        pub out: MemoryReservation,
        /// In and out: progress, in input extents.
        pub nr_exchanged: u64 => u32,
    }
}

layout! { MemoryExchange = "struct xen_memory_exchange", 72, narrow 44;
    in_ 0 "in", out 32, nr_exchanged 64
}

two_widths! {
    /// `XENMEM_MACHPHYS_MFN_LIST`: lists the frames of the M2P's 2 MiB extents.
    pub struct MachphysMfnList {
        /// Number of entries that `extent_start` has room for.
        pub max_extents: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
        pub extent_start: GuestHandle,
        /// Out: number of entries written.
        pub nr_extents: u32,
        #[doc(hidden)]
        pub _gap1: [u8; 4] => [u8; 0],
    }
}

layout! { MachphysMfnList = "struct xen_machphys_mfn_list", 24, narrow 12;
    max_extents 0, extent_start 8, nr_extents 16
}

two_widths! {
    /// The argument of `XENMEM_MACHPHYS_MAPPING`.
    pub struct MachphysMapping {
        /// First virtual address of the M2P.
        pub v_start: u64 => u32,
        /// Virtual address after the M2P.
        pub v_end: u64 => u32,
        pub max_mfn: u64 => u32,
    }
}

layout! { MachphysMapping = "struct xen_machphys_mapping", 24, narrow 12;
    v_start 0, v_end 8, max_mfn 16
}

two_widths! {
    /// The argument of `XENMEM_ADD_TO_PHYSMAP`.
    pub struct AddToPhysmap {
        pub domid: u16,
        /// Number of pages, for `XENMAPSPACE_GMFN_RANGE`.
        pub size: u16,
        /// The source of the page, one of `XENMAPSPACE_*`.
        pub space: u32,
        pub idx: u64 => u32,
        pub gpfn: u64 => u32,
    }
}

layout! { AddToPhysmap = "struct xen_add_to_physmap", 24, narrow 16;
    domid 0, size 2, space 4, idx 8, gpfn 16
}

two_widths! {
    /// The argument of `XENMEM_ADD_TO_PHYSMAP_BATCH`.
    pub struct AddToPhysmapBatch {
        pub domid: u16,
        pub space: u16,
        pub size: u16,
        pub foreign_domid: u16,
        pub idxs: GuestHandle,
        pub gpfns: GuestHandle,
        pub errs: GuestHandle,
    }
}

layout! { AddToPhysmapBatch = "struct xen_add_to_physmap_batch", 32, narrow 20;
    domid 0, space 2, size 4, foreign_domid 6 "u.foreign_domid", idxs 8, gpfns 16, errs 24
}

two_widths! {
    /// The argument of `XENMEM_REMOVE_FROM_PHYSMAP`.
    pub struct RemoveFromPhysmap {
        pub domid: u16,
        #[doc(hidden)]
        pub _gap0: [u8; 6] => [u8; 2],
        pub gpfn: u64 => u32,
    }
}

layout! { RemoveFromPhysmap = "struct xen_remove_from_physmap", 16, narrow 8;
    domid 0, gpfn 8
}

two_widths! {
    /// The argument of `XENMEM_MEMORY_MAP` and `XENMEM_MACHINE_MEMORY_MAP`.
    pub struct MemoryMap {
        /// In: number of entries that fit; out: number used.
        pub nr_entries: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
        /// Pointer to an array of `E820Entry`.
        pub buffer: GuestHandle,
    }
}

layout! { MemoryMap = "struct xen_memory_map", 16, narrow 8;
    nr_entries 0, buffer 8
}

two_widths! {
    /// The argument of `XENMEM_SET_MEMORY_MAP`.
    pub struct ForeignMemoryMap {
        pub domid: u16,
        #[doc(hidden)]
        pub _gap0: [u8; 6] => [u8; 2],
        pub map: MemoryMap,
    }
}

layout! { ForeignMemoryMap = "struct xen_foreign_memory_map", 24, narrow 12;
    domid 0, map 8
}

two_widths! {
    /// The argument of `XENMEM_SET_POD_TARGET` and `XENMEM_GET_POD_TARGET`.
    pub struct PodTarget {
        pub target_pages: u64,
        pub tot_pages: u64,
        pub pod_cache_pages: u64,
        pub pod_entries: u64,
        pub domid: u16,
        #[doc(hidden)]
        pub _gap0: [u8; 6] => [u8; 2],
    }
}

layout! { PodTarget = "struct xen_pod_target", 40, narrow 36;
    target_pages 0, tot_pages 8, pod_cache_pages 16, pod_entries 24, domid 32
}

two_widths! {
    /// The argument of `XENMEM_RESERVED_DEVICE_MEMORY_MAP`.
    pub struct ReservedDeviceMemoryMap {
        pub flags: u32,
        pub nr_entries: u32,
        pub buffer: GuestHandle,
        pub dev_seg: u16,
        pub dev_bus: u8,
        pub dev_devfn: u8,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
    }
}

layout! { ReservedDeviceMemoryMap = "struct xen_reserved_device_memory_map", 24, narrow 16;
    flags 0, nr_entries 4, buffer 8, dev_seg 16 "dev.pci.seg", dev_bus 18 "dev.pci.bus", dev_devfn 19 "dev.pci.devfn"
}

two_widths! {
    /// The argument of `XENMEM_ACCESS_OP`.
    pub struct MemAccessOp {
        pub op: u8,
        pub access: u8,
        pub domid: u16,
        pub nr: u32,
        pub pfn: u64,
        pub pfn_list: GuestHandle,
        pub access_list: GuestHandle,
    }
}

layout! { MemAccessOp = "struct xen_mem_access_op", 32, narrow 24;
    op 0, access 1, domid 2, nr 4, pfn 8, pfn_list 16, access_list 24
}

two_widths! {
    /// The argument of `XENMEM_ACQUIRE_RESOURCE`.
    pub struct MemAcquireResource {
        pub domid: u16,
        /// The type, one of `XENMEM_RESOURCE_*`.
        pub type_: u16,
        pub id: u32,
        /// In: number of frames wanted; out, with a null list: number available.
        pub nr_frames: u32,
        /// Padding; must be zero.
        pub pad: u32,
        /// Index of the first frame within the resource.
        pub frame: u64,
        /// Pointer to frame numbers, in (HVM) or out (PV).
        pub frame_list: GuestHandle,
    }
}

layout! { MemAcquireResource = "struct xen_mem_acquire_resource", 32, narrow 28;
    domid 0, type_ 2 "type", id 4, nr_frames 8, pad 12, frame 16, frame_list 24
}

/// The argument of `XENMEM_GET_VNUMAINFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VnumaTopologyInfo {
    pub domid: u16,
    /// Padding; must be zero.
    pub pad: u16,
    pub nr_vnodes: u32,
    pub nr_vcpus: u32,
    pub nr_vmemranges: u32,
    pub vdistance: GuestHandle64,
    pub vcpu_to_vnode: GuestHandle64,
    pub vmemrange: GuestHandle64,
}

layout! { VnumaTopologyInfo = "struct xen_vnuma_topology_info", 40;
    domid 0, pad 2, nr_vnodes 4, nr_vcpus 8, nr_vmemranges 12, vdistance 16, vcpu_to_vnode 24, vmemrange 32
}

/// One range of a memory map, in the firmware's E820 layout (20 bytes, unaligned).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub struct E820Entry {
    /// First machine or pseudo-physical address.
    pub addr: u64,
    /// Length of the range in bytes.
    pub size: u64,
    /// The type, one of `E820_*`.
    pub type_: u32,
}

const _: () = assert!(size_of::<E820Entry>() == 20);

same_form!(E820Entry);

/// Usable memory (ACPI 6, table 15.4).
pub const E820_RAM: u32 = 1;
/// Reserved (ACPI 6, table 15.4).
pub const E820_RESERVED: u32 = 2;
/// ACPI tables (ACPI 6, table 15.4).
pub const E820_ACPI: u32 = 3;
/// ACPI non-volatile storage (ACPI 6, table 15.4).
pub const E820_NVS: u32 = 4;
/// Bad memory (ACPI 6, table 15.4).
pub const E820_UNUSABLE: u32 = 5;

/// Number of address bits to which `mem_flags` limits the frames of a reservation; 0: no limit.
#[must_use]
pub const fn xenmemf_address_bits(mem_flags: u32) -> u32 {
    mem_flags & 0xff
}
