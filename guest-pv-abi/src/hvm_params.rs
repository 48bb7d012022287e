//! Parameters of HVM domains and the numbers of hvm_op.
//!
//! Source: Xen's public headers `hvm/params.h, hvm/hvm_op.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::{layout, numbers};

numbers! { NUMBERS_U32_PARAMS, "hvm/params.h", u32;
    HVM_PARAM_PAE_ENABLED = 4, "HVM_PARAM_PAE_ENABLED";
    HVM_PARAM_DM_DOMAIN = 13, "HVM_PARAM_DM_DOMAIN";
    HVM_PARAM_MEMORY_EVENT_CR0 = 20, "HVM_PARAM_MEMORY_EVENT_CR0";
    HVM_PARAM_MEMORY_EVENT_CR3 = 21, "HVM_PARAM_MEMORY_EVENT_CR3";
    HVM_PARAM_MEMORY_EVENT_CR4 = 22, "HVM_PARAM_MEMORY_EVENT_CR4";
    HVM_PARAM_MEMORY_EVENT_INT3 = 23, "HVM_PARAM_MEMORY_EVENT_INT3";
    HVM_PARAM_NESTEDHVM = 24, "HVM_PARAM_NESTEDHVM";
    HVM_PARAM_MEMORY_EVENT_SINGLE_STEP = 25, "HVM_PARAM_MEMORY_EVENT_SINGLE_STEP";
    HVM_PARAM_BUFIOREQ_EVTCHN = 26, "HVM_PARAM_BUFIOREQ_EVTCHN";
    HVM_PARAM_MEMORY_EVENT_MSR = 30, "HVM_PARAM_MEMORY_EVENT_MSR";
    HVM_PARAM_CALLBACK_IRQ = 0, "HVM_PARAM_CALLBACK_IRQ";
    HVM_PARAM_CALLBACK_TYPE_GSI = 0, "HVM_PARAM_CALLBACK_TYPE_GSI";
    HVM_PARAM_CALLBACK_TYPE_PCI_INTX = 1, "HVM_PARAM_CALLBACK_TYPE_PCI_INTX";
    HVM_PARAM_CALLBACK_TYPE_VECTOR = 2, "HVM_PARAM_CALLBACK_TYPE_VECTOR";
    HVM_PARAM_STORE_PFN = 1, "HVM_PARAM_STORE_PFN";
    HVM_PARAM_STORE_EVTCHN = 2, "HVM_PARAM_STORE_EVTCHN";
    HVM_PARAM_IOREQ_PFN = 5, "HVM_PARAM_IOREQ_PFN";
    HVM_PARAM_BUFIOREQ_PFN = 6, "HVM_PARAM_BUFIOREQ_PFN";
    HVM_PARAM_VIRIDIAN = 9, "HVM_PARAM_VIRIDIAN";
    HVMPV_BASE_FREQ = 1, "HVMPV_base_freq";
    HVMPV_NO_FREQ = 2, "HVMPV_no_freq";
    HVMPV_TIME_REF_COUNT = 4, "HVMPV_time_ref_count";
    HVMPV_REFERENCE_TSC = 8, "HVMPV_reference_tsc";
    HVMPV_HCALL_REMOTE_TLB_FLUSH = 16, "HVMPV_hcall_remote_tlb_flush";
    HVMPV_APIC_ASSIST = 32, "HVMPV_apic_assist";
    HVMPV_CRASH_CTL = 64, "HVMPV_crash_ctl";
    HVMPV_SYNIC = 128, "HVMPV_synic";
    HVMPV_STIMER = 0x100, "HVMPV_stimer";
    HVMPV_HCALL_IPI = 0x200, "HVMPV_hcall_ipi";
    HVMPV_EX_PROCESSOR_MASKS = 0x400, "HVMPV_ex_processor_masks";
    HVMPV_NO_VP_LIMIT = 0x800, "HVMPV_no_vp_limit";
    HVMPV_CPU_HOTPLUG = 0x1000, "HVMPV_cpu_hotplug";
    HVMPV_FEATURE_MASK = 0x1fff, "HVMPV_feature_mask";
    HVM_PARAM_TIMER_MODE = 10, "HVM_PARAM_TIMER_MODE";
    HVMPTM_DELAY_FOR_MISSED_TICKS = 0, "HVMPTM_delay_for_missed_ticks";
    HVMPTM_NO_DELAY_FOR_MISSED_TICKS = 1, "HVMPTM_no_delay_for_missed_ticks";
    HVMPTM_NO_MISSED_TICKS_PENDING = 2, "HVMPTM_no_missed_ticks_pending";
    HVMPTM_ONE_MISSED_TICK_PENDING = 3, "HVMPTM_one_missed_tick_pending";
    HVM_PARAM_HPET_ENABLED = 11, "HVM_PARAM_HPET_ENABLED";
    HVM_PARAM_IDENT_PT = 12, "HVM_PARAM_IDENT_PT";
    HVM_PARAM_ACPI_S_STATE = 14, "HVM_PARAM_ACPI_S_STATE";
    HVM_PARAM_VM86_TSS = 15, "HVM_PARAM_VM86_TSS";
    HVM_PARAM_VPT_ALIGN = 16, "HVM_PARAM_VPT_ALIGN";
    HVM_PARAM_CONSOLE_PFN = 17, "HVM_PARAM_CONSOLE_PFN";
    HVM_PARAM_CONSOLE_EVTCHN = 18, "HVM_PARAM_CONSOLE_EVTCHN";
    HVM_PARAM_ACPI_IOPORTS_LOCATION = 19, "HVM_PARAM_ACPI_IOPORTS_LOCATION";
    HVM_PARAM_PAGING_RING_PFN = 27, "HVM_PARAM_PAGING_RING_PFN";
    HVM_PARAM_MONITOR_RING_PFN = 28, "HVM_PARAM_MONITOR_RING_PFN";
    HVM_PARAM_SHARING_RING_PFN = 29, "HVM_PARAM_SHARING_RING_PFN";
    HVM_PARAM_TRIPLE_FAULT_REASON = 31, "HVM_PARAM_TRIPLE_FAULT_REASON";
    HVM_PARAM_IOREQ_SERVER_PFN = 32, "HVM_PARAM_IOREQ_SERVER_PFN";
    HVM_PARAM_NR_IOREQ_SERVER_PAGES = 33, "HVM_PARAM_NR_IOREQ_SERVER_PAGES";
    HVM_PARAM_VM_GENERATION_ID_ADDR = 34, "HVM_PARAM_VM_GENERATION_ID_ADDR";
    HVM_PARAM_ALTP2M = 35, "HVM_PARAM_ALTP2M";
    HVM_PARAM_X87_FIP_WIDTH = 36, "HVM_PARAM_X87_FIP_WIDTH";
    HVM_PARAM_VM86_TSS_SIZED = 37, "HVM_PARAM_VM86_TSS_SIZED";
    HVM_PARAM_MCA_CAP = 38, "HVM_PARAM_MCA_CAP";
    XEN_HVM_MCA_CAP_LMCE = 1, "XEN_HVM_MCA_CAP_LMCE";
    XEN_HVM_MCA_CAP_MASK = 1, "XEN_HVM_MCA_CAP_MASK";
    HVM_NR_PARAMS = 39, "HVM_NR_PARAMS";
}

numbers! { NUMBERS_I64, "hvm/params.h", i64;
    HVM_PARAM_CALLBACK_IRQ_TYPE_MASK = -72057594037927936, "HVM_PARAM_CALLBACK_IRQ_TYPE_MASK";
}

numbers! { NUMBERS_U32_HVM_OP, "hvm/hvm_op.h", u32;
    HVMOP_SET_PARAM = 0, "HVMOP_set_param";
    HVMOP_GET_PARAM = 1, "HVMOP_get_param";
    HVMOP_FLUSH_TLBS = 5, "HVMOP_flush_tlbs";
    HVMOP_PAGETABLE_DYING = 9, "HVMOP_pagetable_dying";
    HVMOP_GET_TIME = 10, "HVMOP_get_time";
    HVMOP_XENTRACE = 11, "HVMOP_xentrace";
    HVMOP_SET_MEM_ACCESS = 12, "HVMOP_set_mem_access";
    HVMOP_GET_MEM_ACCESS = 13, "HVMOP_get_mem_access";
    HVMOP_GET_MEM_TYPE = 15, "HVMOP_get_mem_type";
    HVM_IOREQSRV_BUFIOREQ_OFF = 0, "HVM_IOREQSRV_BUFIOREQ_OFF";
    HVM_IOREQSRV_BUFIOREQ_LEGACY = 1, "HVM_IOREQSRV_BUFIOREQ_LEGACY";
    HVM_IOREQSRV_BUFIOREQ_ATOMIC = 2, "HVM_IOREQSRV_BUFIOREQ_ATOMIC";
    HVMOP_SET_EVTCHN_UPCALL_VECTOR = 23, "HVMOP_set_evtchn_upcall_vector";
    HVMOP_GUEST_REQUEST_VM_EVENT = 24, "HVMOP_guest_request_vm_event";
    HVMOP_ALTP2M = 25, "HVMOP_altp2m";
    HVMOP_ALTP2M_INTERFACE_VERSION = 1, "HVMOP_ALTP2M_INTERFACE_VERSION";
    HVMOP_ALTP2M_GET_DOMAIN_STATE = 1, "HVMOP_altp2m_get_domain_state";
    HVMOP_ALTP2M_SET_DOMAIN_STATE = 2, "HVMOP_altp2m_set_domain_state";
    HVMOP_ALTP2M_VCPU_ENABLE_NOTIFY = 3, "HVMOP_altp2m_vcpu_enable_notify";
    HVMOP_ALTP2M_CREATE_P2M = 4, "HVMOP_altp2m_create_p2m";
    HVMOP_ALTP2M_DESTROY_P2M = 5, "HVMOP_altp2m_destroy_p2m";
    HVMOP_ALTP2M_SWITCH_P2M = 6, "HVMOP_altp2m_switch_p2m";
    HVMOP_ALTP2M_SET_MEM_ACCESS = 7, "HVMOP_altp2m_set_mem_access";
    HVMOP_ALTP2M_CHANGE_GFN = 8, "HVMOP_altp2m_change_gfn";
    HVMOP_ALTP2M_SET_MEM_ACCESS_MULTI = 9, "HVMOP_altp2m_set_mem_access_multi";
    HVMOP_ALTP2M_SET_SUPPRESS_VE = 10, "HVMOP_altp2m_set_suppress_ve";
    HVMOP_ALTP2M_GET_SUPPRESS_VE = 11, "HVMOP_altp2m_get_suppress_ve";
    HVMOP_ALTP2M_GET_MEM_ACCESS = 12, "HVMOP_altp2m_get_mem_access";
    HVMOP_ALTP2M_VCPU_DISABLE_NOTIFY = 13, "HVMOP_altp2m_vcpu_disable_notify";
    HVMOP_ALTP2M_GET_P2M_IDX = 14, "HVMOP_altp2m_get_p2m_idx";
    HVMOP_ALTP2M_SET_SUPPRESS_VE_MULTI = 15, "HVMOP_altp2m_set_suppress_ve_multi";
    HVMOP_ALTP2M_SET_VISIBILITY = 16, "HVMOP_altp2m_set_visibility";
}

/// The argument of `HVMOP_SET_PARAM` and `HVMOP_GET_PARAM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmParam {
    pub domid: u16,
    pub pad: u16,
    /// The parameter, one of `HVM_PARAM_*`.
    pub index: u32,
    pub value: u64,
}

layout! { HvmParam = "struct xen_hvm_param", 16;
    domid 0, pad 2, index 4, value 8
}

/// The argument of `HVMOP_XENTRACE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmXentrace {
    pub event: u16,
    /// Number of bytes in `extra` that are valid.
    pub extra_bytes: u16,
    pub extra: [u8; 28],
}

layout! { HvmXentrace = "struct xen_hvm_xentrace", 32;
    event 0, extra_bytes 2, extra 4
}
