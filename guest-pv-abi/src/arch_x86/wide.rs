//! The registers, address map and vCPU context of a 64-bit guest.
//!
//! Source: Xen's public headers `arch-x86/xen.h, arch-x86/xen-x86_64.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::TrapInfo;
use super::narrow;
use crate::Form;
use crate::layout::{layout, numbers};

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

layout! { CpuUserRegs = "struct cpu_user_regs", 200, wide;
    r15 0, r14 8, r13 16, r12 24, rbp 32, rbx 40, r11 48, r10 56, r9 64, r8 72, rax 80, rcx 88, rdx 96, rsi 104, rdi 112, error_code 120, entry_vector 124, rip 128, cs 136, _pad0 138, saved_upcall_mask 140, _pad1 141, rflags 144, rsp 152, ss 160, _pad2 162, es 168, _pad3 170, ds 176, _pad4 178, fs 184, _pad5 186, gs 192, _pad6 194
}

impl Form for CpuUserRegs {
    type Narrow = narrow::CpuUserRegs;
    const SAME: bool = false;
    fn widen(narrow: narrow::CpuUserRegs) -> Self {
        Self {
            rbx: narrow.ebx.into(),
            rcx: narrow.ecx.into(),
            rdx: narrow.edx.into(),
            rsi: narrow.esi.into(),
            rdi: narrow.edi.into(),
            rbp: narrow.ebp.into(),
            rax: narrow.eax.into(),
            error_code: narrow.error_code.into(),
            entry_vector: narrow.entry_vector.into(),
            rip: narrow.eip.into(),
            cs: narrow.cs,
            saved_upcall_mask: narrow.saved_upcall_mask,
            rflags: narrow.eflags.into(),
            rsp: narrow.esp.into(),
            ss: narrow.ss,
            es: narrow.es,
            ds: narrow.ds,
            fs: narrow.fs,
            gs: narrow.gs,
            ..Self::default()
        }
    }
    fn narrow(&self) -> narrow::CpuUserRegs {
        narrow::CpuUserRegs {
            ebx: self.rbx as u32,
            ecx: self.rcx as u32,
            edx: self.rdx as u32,
            esi: self.rsi as u32,
            edi: self.rdi as u32,
            ebp: self.rbp as u32,
            eax: self.rax as u32,
            error_code: self.error_code as u16,
            entry_vector: self.entry_vector as u16,
            eip: self.rip as u32,
            cs: self.cs,
            saved_upcall_mask: self.saved_upcall_mask,
            eflags: self.rflags as u32,
            esp: self.rsp as u32,
            ss: self.ss,
            es: self.es,
            ds: self.ds,
            fs: self.fs,
            gs: self.gs,
            ..Default::default()
        }
    }
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

layout! { VcpuGuestContext = "struct vcpu_guest_context", 5168, wide;
    fpu_ctxt 0, flags 512, user_regs 520, trap_ctxt 720, ldt_base 4816, ldt_ents 4824, gdt_frames 4832, gdt_ents 4960, kernel_ss 4968, kernel_sp 4976, ctrlreg 4984, debugreg 5048, event_callback_eip 5112, failsafe_callback_eip 5120, syscall_callback_eip 5128, vm_assist 5136, fs_base 5144, gs_base_kernel 5152, gs_base_user 5160
}

/// CR3 keeps its encoding ([`narrow::cr3_to_pfn`] decodes a narrow guest's), and the callbacks of a narrow guest are
/// `cs << 32 | eip`, as [`narrow::Callback`] says. A narrow guest has no syscall callback and no segment bases.
impl Form for VcpuGuestContext {
    type Narrow = narrow::VcpuGuestContext;
    const SAME: bool = false;
    fn widen(narrow: narrow::VcpuGuestContext) -> Self {
        Self {
            fpu_ctxt: narrow.fpu_ctxt,
            flags: narrow.flags.into(),
            user_regs: CpuUserRegs::widen(narrow.user_regs),
            trap_ctxt: narrow.trap_ctxt.map(TrapInfo::widen),
            ldt_base: narrow.ldt_base.into(),
            ldt_ents: narrow.ldt_ents.into(),
            gdt_frames: narrow.gdt_frames.map(Into::into),
            gdt_ents: narrow.gdt_ents.into(),
            kernel_ss: narrow.kernel_ss.into(),
            kernel_sp: narrow.kernel_sp.into(),
            ctrlreg: narrow.ctrlreg.map(Into::into),
            debugreg: narrow.debugreg.map(Into::into),
            event_callback_eip: narrow.event_callback.to_word(),
            failsafe_callback_eip: narrow.failsafe_callback.to_word(),
            vm_assist: narrow.vm_assist.into(),
            ..Self::default()
        }
    }
    fn narrow(&self) -> narrow::VcpuGuestContext {
        narrow::VcpuGuestContext {
            fpu_ctxt: self.fpu_ctxt,
            flags: self.flags as u32,
            user_regs: self.user_regs.narrow(),
            trap_ctxt: self.trap_ctxt.each_ref().map(TrapInfo::narrow),
            ldt_base: self.ldt_base as u32,
            ldt_ents: self.ldt_ents as u32,
            gdt_frames: self.gdt_frames.map(|frame| frame as u32),
            gdt_ents: self.gdt_ents as u32,
            kernel_ss: self.kernel_ss as u32,
            kernel_sp: self.kernel_sp as u32,
            ctrlreg: self.ctrlreg.map(|register| register as u32),
            debugreg: self.debugreg.map(|register| register as u32),
            event_callback: narrow::Callback::from_word(self.event_callback_eip),
            failsafe_callback: narrow::Callback::from_word(self.failsafe_callback_eip),
            vm_assist: self.vm_assist as u32,
        }
    }
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

layout! { IretContext = "struct iret_context", 72, wide;
    rax 0, r11 8, rcx 16, flags 24, rip 32, cs 40, rflags 48, rsp 56, ss 64
}
