//! Feature bits of `XENVER_GET_FEATURES` and of `XEN_ELFNOTE_SUPPORTED_FEATURES`.
//!
//! Source: Xen's public header `features.h`.

use crate::layout::numbers;

numbers! { NUMBERS_U32, "features.h", u32;
    XENFEAT_WRITABLE_PAGE_TABLES = 0, "XENFEAT_writable_page_tables";
    XENFEAT_WRITABLE_DESCRIPTOR_TABLES = 1, "XENFEAT_writable_descriptor_tables";
    XENFEAT_AUTO_TRANSLATED_PHYSMAP = 2, "XENFEAT_auto_translated_physmap";
    XENFEAT_SUPERVISOR_MODE_KERNEL = 3, "XENFEAT_supervisor_mode_kernel";
    XENFEAT_PAE_PGDIR_ABOVE_4GB = 4, "XENFEAT_pae_pgdir_above_4gb";
    XENFEAT_MMU_PT_UPDATE_PRESERVE_AD = 5, "XENFEAT_mmu_pt_update_preserve_ad";
    XENFEAT_HIGHMEM_ASSIST = 6, "XENFEAT_highmem_assist";
    XENFEAT_GNTTAB_MAP_AVAIL_BITS = 7, "XENFEAT_gnttab_map_avail_bits";
    XENFEAT_HVM_CALLBACK_VECTOR = 8, "XENFEAT_hvm_callback_vector";
    XENFEAT_HVM_SAFE_PVCLOCK = 9, "XENFEAT_hvm_safe_pvclock";
    XENFEAT_HVM_PIRQS = 10, "XENFEAT_hvm_pirqs";
    XENFEAT_DOM0 = 11, "XENFEAT_dom0";
    XENFEAT_MEMORY_OP_VNODE_SUPPORTED = 13, "XENFEAT_memory_op_vnode_supported";
    XENFEAT_ARM_SMCCC_SUPPORTED = 14, "XENFEAT_ARM_SMCCC_supported";
    XENFEAT_LINUX_RSDP_UNRESTRICTED = 15, "XENFEAT_linux_rsdp_unrestricted";
    XENFEAT_NOT_DIRECT_MAPPED = 16, "XENFEAT_not_direct_mapped";
    XENFEAT_DIRECT_MAPPED = 17, "XENFEAT_direct_mapped";
    XENFEAT_RUNSTATE_PHYS_AREA = 18, "XENFEAT_runstate_phys_area";
    XENFEAT_VCPU_TIME_PHYS_AREA = 19, "XENFEAT_vcpu_time_phys_area";
    XENFEAT_DM_MSIX_ALL_WRITES = 20, "XENFEAT_dm_msix_all_writes";
    XENFEAT_NR_SUBMAPS = 1, "XENFEAT_NR_SUBMAPS";
}
