//! x86 parts of the guest ABI: segment selectors, address map, registers, trap table, vCPU context.
//!
//! What only a 64-bit guest has is re-exported on a 64-bit target, what only a 32-bit guest has on a 32-bit target;
//! [`narrow`] has the latter on both.
//!
//! Source: Xen's public header `arch-x86/xen.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::form::{same_bytes_as, two_widths};
use crate::layout::{layout, numbers};

pub mod narrow;
#[cfg(target_pointer_width = "64")]
mod wide;
#[cfg(target_pointer_width = "32")]
pub use narrow::*;
#[cfg(target_pointer_width = "64")]
pub use wide::*;

numbers! { NUMBERS_U32_XEN, "arch-x86/xen.h", u32;
    FIRST_RESERVED_GDT_PAGE = 14, "FIRST_RESERVED_GDT_PAGE";
    FIRST_RESERVED_GDT_BYTE = 0xe000, "FIRST_RESERVED_GDT_BYTE";
    FIRST_RESERVED_GDT_ENTRY = 0x1c00, "FIRST_RESERVED_GDT_ENTRY";
    XEN_X86_EMU_LAPIC = 1, "XEN_X86_EMU_LAPIC";
    XEN_X86_EMU_HPET = 2, "XEN_X86_EMU_HPET";
    XEN_X86_EMU_PM = 4, "XEN_X86_EMU_PM";
    XEN_X86_EMU_RTC = 8, "XEN_X86_EMU_RTC";
    XEN_X86_EMU_IOAPIC = 16, "XEN_X86_EMU_IOAPIC";
    XEN_X86_EMU_PIC = 32, "XEN_X86_EMU_PIC";
    XEN_X86_EMU_VGA = 64, "XEN_X86_EMU_VGA";
    XEN_X86_EMU_IOMMU = 128, "XEN_X86_EMU_IOMMU";
    XEN_X86_EMU_PIT = 0x100, "XEN_X86_EMU_PIT";
    XEN_X86_EMU_USE_PIRQ = 0x200, "XEN_X86_EMU_USE_PIRQ";
    XEN_X86_EMU_VPCI = 0x400, "XEN_X86_EMU_VPCI";
    XEN_X86_EMU_ALL = 0x7ff, "XEN_X86_EMU_ALL";
    XEN_X86_MSR_RELAXED = 1, "XEN_X86_MSR_RELAXED";
    XEN_X86_MISC_FLAGS_MAX = 1, "XEN_X86_MISC_FLAGS_MAX";
    XEN_CPUID_NO_SUBLEAF = 0xffff_ffff, "XEN_CPUID_NO_SUBLEAF";
    XEN_HVM_DEBUGCONS_IOPORT = 233, "XEN_HVM_DEBUGCONS_IOPORT";
}

numbers! { NUMBERS_USIZE, "arch-x86/xen.h", usize;
    XEN_LEGACY_MAX_VCPUS = 32, "XEN_LEGACY_MAX_VCPUS";
}

numbers! { NUMBERS_U64_XEN, "arch-x86/xen.h", u64;
    VGCF_I387_VALID = 1, "VGCF_I387_VALID";
    VGCF_IN_KERNEL = 4, "VGCF_IN_KERNEL";
    VGCF_FAILSAFE_DISABLES_EVENTS = 8, "VGCF_failsafe_disables_events";
    VGCF_SYSCALL_DISABLES_EVENTS = 16, "VGCF_syscall_disables_events";
    VGCF_ONLINE = 32, "VGCF_online";
}

two_widths! {
    /// The x86-specific part of `VcpuInfo`.
    pub struct ArchVcpuInfo {
        /// Faulting address of the last page fault that was bounced to the guest.
        pub cr2: u64 => u32,
        /// Padding to 16 bytes.
        pub pad: u64 => [u32; 5],
    }
}

same_bytes_as! { u64 => [u32; 5]; }

layout! { ArchVcpuInfo = "struct arch_vcpu_info", 16, narrow 24;
    cr2 0, pad 8
}

two_widths! {
    /// The x86-specific part of `SharedInfo`, filled in by the guest for the toolstack.
    pub struct ArchSharedInfo {
        /// Number of frames in the P2M.
        pub max_pfn: u64 => u32,
        /// Root of the 3-level P2M frame list.
        pub pfn_to_mfn_frame_list_list: u64 => u32,
        /// Reasons of the last NMI, bits `XEN_NMIREASON_*`.
        pub nmi_reason: u64 => u32,
        /// CR3 value under which `p2m_vaddr` is mapped.
        pub p2m_cr3: u64 => u32,
        /// Virtual address of the linear P2M.
        pub p2m_vaddr: u64 => u32,
        /// Odd while the guest changes the P2M mapping.
        pub p2m_generation: u64 => u32,
        /// Narrow guests alone: what `SharedInfo::wc_sec_hi` is for wide ones.
        pub wc_sec_hi: [u32; 0] => u32,
    }
}

layout! { ArchSharedInfo = "struct arch_shared_info", 48, narrow 28;
    max_pfn 0, pfn_to_mfn_frame_list_list 8, nmi_reason 16, p2m_cr3 24, p2m_vaddr 32, p2m_generation 40
}

two_widths! {
    /// One entry of a virtual IDT.
    pub struct TrapInfo {
        /// Exception vector (0–255) of the entry.
        pub vector: u8,
        /// Bits 0-1: DPL; bit 2: mask events on entry.
        pub flags: u8,
        /// Code selector of the handler.
        pub cs: u16,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
        /// Address of the handler; 0 ends the table.
        pub address: u64 => u32,
    }
}

layout! { TrapInfo = "struct trap_info", 16, narrow 8;
    vector 0, flags 1, cs 2, address 8
}

/// The x86-specific part of createdomain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArchDomainConfig {
    /// A combination of `XEN_X86_EMU_*` flags.
    pub emulation_flags: u32,
    /// `XEN_X86_MSR_RELAXED` or 0.
    pub misc_flags: u32,
}

layout! { ArchDomainConfig = "struct xen_arch_domainconfig", 8;
    emulation_flags 0, misc_flags 4
}

/// One leaf of a CPU policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuidLeaf {
    pub leaf: u32,
    /// Subleaf number, or `XEN_CPUID_NO_SUBLEAF`.
    pub subleaf: u32,
    pub a: u32,
    pub b: u32,
    pub c: u32,
    pub d: u32,
}

layout! { CpuidLeaf = "struct xen_cpuid_leaf", 24;
    leaf 0, subleaf 4, a 8, b 12, c 16, d 20
}

/// One MSR of a CPU policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MsrEntry {
    pub idx: u32,
    /// Reserved, must be zero.
    pub flags: u32,
    pub val: u64,
}

layout! { MsrEntry = "struct xen_msr_entry", 16;
    idx 0, flags 4, val 8
}
