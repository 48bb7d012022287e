//! x86-64 parts of the guest ABI: segment selectors, address map, registers, trap table, vCPU context.
//!
//! Source: Xen's public headers `arch-x86/xen.h, arch-x86/xen-x86_64.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::{layout, numbers};

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

numbers! { NUMBERS_U16, "arch-x86/xen-x86_64.h", u16;
    FLAT_RING3_CS32 = 0xe023, "FLAT_RING3_CS32";
    FLAT_RING3_CS64 = 0xe033, "FLAT_RING3_CS64";
    FLAT_RING3_DS32 = 0xe02b, "FLAT_RING3_DS32";
    FLAT_RING3_DS64 = 0, "FLAT_RING3_DS64";
    FLAT_RING3_SS32 = 0xe02b, "FLAT_RING3_SS32";
    FLAT_RING3_SS64 = 0xe02b, "FLAT_RING3_SS64";
    FLAT_KERNEL_DS64 = 0, "FLAT_KERNEL_DS64";
    FLAT_KERNEL_DS32 = 0xe02b, "FLAT_KERNEL_DS32";
    FLAT_KERNEL_DS = 0, "FLAT_KERNEL_DS";
    FLAT_KERNEL_CS64 = 0xe033, "FLAT_KERNEL_CS64";
    FLAT_KERNEL_CS32 = 0xe023, "FLAT_KERNEL_CS32";
    FLAT_KERNEL_CS = 0xe033, "FLAT_KERNEL_CS";
    FLAT_KERNEL_SS64 = 0xe02b, "FLAT_KERNEL_SS64";
    FLAT_KERNEL_SS32 = 0xe02b, "FLAT_KERNEL_SS32";
    FLAT_KERNEL_SS = 0xe02b, "FLAT_KERNEL_SS";
    FLAT_USER_DS64 = 0, "FLAT_USER_DS64";
    FLAT_USER_DS32 = 0xe02b, "FLAT_USER_DS32";
    FLAT_USER_DS = 0, "FLAT_USER_DS";
    FLAT_USER_CS64 = 0xe033, "FLAT_USER_CS64";
    FLAT_USER_CS32 = 0xe023, "FLAT_USER_CS32";
    FLAT_USER_CS = 0xe033, "FLAT_USER_CS";
    FLAT_USER_SS64 = 0xe02b, "FLAT_USER_SS64";
    FLAT_USER_SS32 = 0xe02b, "FLAT_USER_SS32";
    FLAT_USER_SS = 0xe02b, "FLAT_USER_SS";
}

numbers! { NUMBERS_U64_XEN_X86_64, "arch-x86/xen-x86_64.h", u64;
    VIRT_START = 0xffff_8000_0000_0000, "__HYPERVISOR_VIRT_START";
    VIRT_END = 0xffff_8800_0000_0000, "__HYPERVISOR_VIRT_END";
    HYPERVISOR_VIRT_START = 0xffff_8000_0000_0000, "HYPERVISOR_VIRT_START";
    HYPERVISOR_VIRT_END = 0xffff_8800_0000_0000, "HYPERVISOR_VIRT_END";
    MACH2PHYS_VIRT_START = 0xffff_8000_0000_0000, "MACH2PHYS_VIRT_START";
    MACH2PHYS_VIRT_END = 0xffff_8040_0000_0000, "MACH2PHYS_VIRT_END";
    MACH2PHYS_NR_ENTRIES = 0x0008_0000_0000, "MACH2PHYS_NR_ENTRIES";
    VGCF_IN_SYSCALL = 0x100, "VGCF_in_syscall";
}

numbers! { NUMBERS_U32_XEN_X86_64, "arch-x86/xen-x86_64.h", u32;
    SEGBASE_FS = 0, "SEGBASE_FS";
    SEGBASE_GS_USER = 1, "SEGBASE_GS_USER";
    SEGBASE_GS_KERNEL = 2, "SEGBASE_GS_KERNEL";
    SEGBASE_GS_USER_SEL = 3, "SEGBASE_GS_USER_SEL";
}

/// The x86-specific part of `VcpuInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArchVcpuInfo {
    /// Faulting address of the last page fault that was bounced to the guest.
    pub cr2: u64,
    /// Padding to 16 bytes.
    pub pad: u64,
}

layout! { ArchVcpuInfo = "struct arch_vcpu_info", 16;
    cr2 0, pad 8
}

/// The x86-specific part of `SharedInfo`, filled in by the guest for the toolstack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArchSharedInfo {
    /// Number of frames in the P2M.
    pub max_pfn: u64,
    /// Root of the 3-level P2M frame list.
    pub pfn_to_mfn_frame_list_list: u64,
    /// Reasons of the last NMI, bits `XEN_NMIREASON_*`.
    pub nmi_reason: u64,
    /// CR3 value under which `p2m_vaddr` is mapped.
    pub p2m_cr3: u64,
    /// Virtual address of the linear P2M.
    pub p2m_vaddr: u64,
    /// Odd while the guest changes the P2M mapping.
    pub p2m_generation: u64,
}

layout! { ArchSharedInfo = "struct arch_shared_info", 48;
    max_pfn 0, pfn_to_mfn_frame_list_list 8, nmi_reason 16, p2m_cr3 24, p2m_vaddr 32, p2m_generation 40
}

/// One entry of a virtual IDT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TrapInfo {
    /// Exception vector (0–255) of the entry.
    pub vector: u8,
    /// Bits 0-1: DPL; bit 2: mask events on entry.
    pub flags: u8,
    /// Code selector of the handler.
    pub cs: u16,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
    /// Address of the handler; 0 ends the table.
    pub address: u64,
}

layout! { TrapInfo = "struct trap_info", 16;
    vector 0, flags 1, cs 2, address 8
}

/// A vCPU's integer registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuUserRegs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Private to the hypervisor.
    pub error_code: u32,
    /// Private to the hypervisor.
    pub entry_vector: u32,
    pub rip: u64,
    pub cs: u16,
    #[doc(hidden)]
    pub _pad0: [u16; 1],
    /// `evtchn_upcall_mask` when the trap occurred.
    pub saved_upcall_mask: u8,
    #[doc(hidden)]
    pub _pad1: [u8; 3],
    /// RFLAGS; bit IF is the inverted upcall mask.
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u16,
    #[doc(hidden)]
    pub _pad2: [u16; 3],
    pub es: u16,
    #[doc(hidden)]
    pub _pad3: [u16; 3],
    pub ds: u16,
    #[doc(hidden)]
    pub _pad4: [u16; 3],
    pub fs: u16,
    #[doc(hidden)]
    pub _pad5: [u16; 3],
    pub gs: u16,
    #[doc(hidden)]
    pub _pad6: [u16; 3],
}

layout! { CpuUserRegs = "struct cpu_user_regs", 200;
    r15 0, r14 8, r13 16, r12 24, rbp 32, rbx 40, r11 48, r10 56, r9 64, r8 72, rax 80, rcx 88, rdx 96, rsi 104, rdi 112, error_code 120, entry_vector 124, rip 128, cs 136, _pad0 138, saved_upcall_mask 140, _pad1 141, rflags 144, rsp 152, ss 160, _pad2 162, es 168, _pad3 170, ds 176, _pad4 178, fs 184, _pad5 186, gs 192, _pad6 194
}

/// The complete initial state of a vCPU (`VCPUOP_INITIALISE`, `XEN_DOMCTL_SETVCPUCONTEXT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuGuestContext {
    /// FXSAVE image, used with `VGCF_I387_VALID`.
    pub fpu_ctxt: [u8; 512],
    /// A combination of `VGCF_*` flags.
    pub flags: u64,
    /// The integer registers, rip and rflags included.
    pub user_regs: CpuUserRegs,
    /// The virtual IDT, one entry for each vector.
    pub trap_ctxt: [TrapInfo; 256],
    /// Linear address of the LDT.
    pub ldt_base: u64,
    /// Number of entries in the LDT.
    pub ldt_ents: u64,
    /// Machine frames of the GDT.
    pub gdt_frames: [u64; 16],
    /// Number of entries in the GDT.
    pub gdt_ents: u64,
    /// Virtual TSS: stack selector.
    pub kernel_ss: u64,
    /// Virtual TSS: stack pointer.
    pub kernel_sp: u64,
    /// CR0 to CR7. CR3 is `frame << 12`; CR1 holds the CR3 of user mode.
    pub ctrlreg: [u64; 8],
    /// Debug registers DR0 to DR7.
    pub debugreg: [u64; 8],
    /// Entry point of the event upcall.
    pub event_callback_eip: u64,
    /// Entry point of the failsafe callback.
    pub failsafe_callback_eip: u64,
    /// Entry point for `syscall` from user mode.
    pub syscall_callback_eip: u64,
    /// Enabled assists, bits `1 << VMASST_TYPE_*`.
    pub vm_assist: u64,
    pub fs_base: u64,
    pub gs_base_kernel: u64,
    pub gs_base_user: u64,
}

layout! { VcpuGuestContext = "struct vcpu_guest_context", 5168;
    fpu_ctxt 0, flags 512, user_regs 520, trap_ctxt 720, ldt_base 4816, ldt_ents 4824, gdt_frames 4832, gdt_ents 4960, kernel_ss 4968, kernel_sp 4976, ctrlreg 4984, debugreg 5048, event_callback_eip 5112, failsafe_callback_eip 5120, syscall_callback_eip 5128, vm_assist 5136, fs_base 5144, gs_base_kernel 5152, gs_base_user 5160
}

/// The frame that HYPERVISOR_iret takes from the guest kernel's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IretContext {
    pub rax: u64,
    pub r11: u64,
    pub rcx: u64,
    /// `VGCF_IN_SYSCALL`: return by SYSRET, without restoring rcx and r11.
    pub flags: u64,
    pub rip: u64,
    /// Code selector; the return is to user mode if its low bits are 3.
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

layout! { IretContext = "struct iret_context", 72;
    rax 0, r11 8, rcx 16, flags 24, rip 32, cs 40, rflags 48, rsp 56, ss 64
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
