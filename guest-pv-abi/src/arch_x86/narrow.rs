//! The registers, address map and vCPU context of a 32-bit guest.
//!
//! Source: Xen's public headers `arch-x86/xen.h, arch-x86/xen-x86_32.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::TrapInfo;
use crate::Form;
use crate::form::FormAs;
use crate::layout::{layout, numbers};

numbers! { NUMBERS_U16, "arch-x86/xen-x86_32.h", u16;
    FLAT_RING1_CS = 0xe019, "FLAT_RING1_CS";
    FLAT_RING1_DS = 0xe021, "FLAT_RING1_DS";
    FLAT_RING1_SS = 0xe021, "FLAT_RING1_SS";
    FLAT_RING3_CS = 0xe02b, "FLAT_RING3_CS";
    FLAT_RING3_DS = 0xe033, "FLAT_RING3_DS";
    FLAT_RING3_SS = 0xe033, "FLAT_RING3_SS";
    FLAT_KERNEL_CS = 0xe019, "FLAT_KERNEL_CS";
    FLAT_KERNEL_DS = 0xe021, "FLAT_KERNEL_DS";
    FLAT_KERNEL_SS = 0xe021, "FLAT_KERNEL_SS";
    FLAT_USER_CS = 0xe02b, "FLAT_USER_CS";
    FLAT_USER_DS = 0xe033, "FLAT_USER_DS";
    FLAT_USER_SS = 0xe033, "FLAT_USER_SS";
}

numbers! { NUMBERS_U64, "arch-x86/xen-x86_32.h", u64;
    VIRT_START = 0xf580_0000, "__HYPERVISOR_VIRT_START";
    MACH2PHYS_VIRT_START = 0xf580_0000, "MACH2PHYS_VIRT_START";
    MACH2PHYS_VIRT_END = 0xf680_0000, "MACH2PHYS_VIRT_END";
    MACH2PHYS_NR_ENTRIES = 0x0040_0000, "MACH2PHYS_NR_ENTRIES";
}

/// First address of the hypervisor's range in a narrow guest, which goes to the end of the 4 GiB
/// (`__HYPERVISOR_COMPAT_VIRT_START` in Xen).
pub const COMPAT_VIRT_START: u64 = VIRT_START;

/// Vector of the hypercall instruction of a narrow guest (`TRAP_INSTR` is `int $0x82`).
pub const HYPERCALL_VECTOR: u8 = 0x82;

/// CR3 of a narrow guest whose root is frame `pfn`: the bits beyond 32 - 12 wrap around (`xen_pfn_to_cr3`).
#[must_use]
pub const fn pfn_to_cr3(pfn: u32) -> u32 {
    pfn.rotate_left(12)
}

/// Frame number of the root in a narrow guest's CR3 (`xen_cr3_to_pfn`).
#[must_use]
pub const fn cr3_to_pfn(cr3: u32) -> u32 {
    cr3.rotate_right(12)
}

/// The entry point of a callback (`xen_callback_t`). As a word, the wide form's entry point, it is `cs << 32 | eip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Callback {
    /// Code selector.
    pub cs: u32,
    /// Offset in the segment.
    pub eip: u32,
}

layout! { Callback = "struct xen_callback", 8;
    cs 0, eip 4
}

impl Callback {
    /// Selector and offset in one word.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        (self.cs as u64) << 32 | self.eip as u64
    }

    /// Selector and offset from one word.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self {
            cs: (word >> 32) as u32,
            eip: word as u32,
        }
    }
}

impl FormAs<Callback> for u64 {
    fn widen_from(narrow: Callback) -> Self {
        narrow.to_word()
    }
    fn narrow_to(&self) -> Callback {
        Callback::from_word(*self)
    }
}

/// A vCPU's integer registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuUserRegs {
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
    pub esi: u32,
    pub edi: u32,
    pub ebp: u32,
    pub eax: u32,
    /// Private to the hypervisor.
    pub error_code: u16,
    /// Private to the hypervisor.
    pub entry_vector: u16,
    pub eip: u32,
    pub cs: u16,
    /// `evtchn_upcall_mask` when the trap occurred.
    pub saved_upcall_mask: u8,
    #[doc(hidden)]
    pub _pad0: u8,
    /// EFLAGS; bit IF is the inverted upcall mask.
    pub eflags: u32,
    pub esp: u32,
    pub ss: u16,
    #[doc(hidden)]
    pub _pad1: u16,
    pub es: u16,
    #[doc(hidden)]
    pub _pad2: u16,
    pub ds: u16,
    #[doc(hidden)]
    pub _pad3: u16,
    pub fs: u16,
    #[doc(hidden)]
    pub _pad4: u16,
    pub gs: u16,
    #[doc(hidden)]
    pub _pad5: u16,
}

layout! { CpuUserRegs = "struct cpu_user_regs", 68;
    ebx 0, ecx 4, edx 8, esi 12, edi 16, ebp 20, eax 24, error_code 28, entry_vector 30, eip 32, cs 36, saved_upcall_mask 38, eflags 40, esp 44, ss 48, es 52, ds 56, fs 60, gs 64
}

/// The complete initial state of a vCPU (`VCPUOP_INITIALISE`, `XEN_DOMCTL_SETVCPUCONTEXT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuGuestContext {
    /// FXSAVE image, used with `VGCF_I387_VALID`.
    pub fpu_ctxt: [u8; 512],
    /// A combination of `VGCF_*` flags.
    pub flags: u32,
    /// The integer registers, eip and eflags included.
    pub user_regs: CpuUserRegs,
    /// The virtual IDT, one entry for each vector.
    pub trap_ctxt: [<TrapInfo as Form>::Narrow; 256],
    /// Linear address of the LDT.
    pub ldt_base: u32,
    /// Number of entries in the LDT.
    pub ldt_ents: u32,
    /// Machine frames of the GDT.
    pub gdt_frames: [u32; 16],
    /// Number of entries in the GDT.
    pub gdt_ents: u32,
    /// Virtual TSS: stack selector of ring 1.
    pub kernel_ss: u32,
    /// Virtual TSS: stack pointer of ring 1.
    pub kernel_sp: u32,
    /// CR0 to CR7. CR3 is encoded by [`pfn_to_cr3`].
    pub ctrlreg: [u32; 8],
    /// Debug registers DR0 to DR7.
    pub debugreg: [u32; 8],
    /// Entry point of the event upcall.
    pub event_callback: Callback,
    /// Entry point of the failsafe callback.
    pub failsafe_callback: Callback,
    /// Enabled assists, bits `1 << VMASST_TYPE_*`.
    pub vm_assist: u32,
}

layout! { VcpuGuestContext = "struct vcpu_guest_context", 2800;
    fpu_ctxt 0, flags 512, user_regs 516, trap_ctxt 584, ldt_base 2632, ldt_ents 2636, gdt_frames 2640, gdt_ents 2704, kernel_ss 2708, kernel_sp 2712, ctrlreg 2716, debugreg 2748, event_callback 2780 "event_callback_cs", failsafe_callback 2788 "failsafe_callback_cs", vm_assist 2796
}

#[cfg(test)]
mod tests {
    use super::{cr3_to_pfn, pfn_to_cr3};

    #[test]
    fn a_frame_above_4_gib_survives_cr3() {
        assert_eq!(pfn_to_cr3(0x12_3456), 0x2345_6001);
        assert_eq!(cr3_to_pfn(0x2345_6001), 0x12_3456);
    }
}
