//! The core of the guest ABI: hypercall numbers, virtual IRQs, page-table updates, the shared info
//! and start info pages.
//!
//! Source: Xen's public header `xen.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle64;
use crate::arch_x86::XEN_LEGACY_MAX_VCPUS;
use crate::arch_x86::{ArchSharedInfo, ArchVcpuInfo};
use crate::form::two_widths;
use crate::layout::{layout, numbers};

/// Hypercall numbers, passed in rax.
pub mod hypercall {
    use crate::layout::numbers;

    numbers! { NUMBERS_U64, "xen.h", u64;
        SET_TRAP_TABLE = 0, "__HYPERVISOR_set_trap_table";
        MMU_UPDATE = 1, "__HYPERVISOR_mmu_update";
        SET_GDT = 2, "__HYPERVISOR_set_gdt";
        STACK_SWITCH = 3, "__HYPERVISOR_stack_switch";
        SET_CALLBACKS = 4, "__HYPERVISOR_set_callbacks";
        FPU_TASKSWITCH = 5, "__HYPERVISOR_fpu_taskswitch";
        SCHED_OP_COMPAT = 6, "__HYPERVISOR_sched_op_compat";
        PLATFORM_OP = 7, "__HYPERVISOR_platform_op";
        SET_DEBUGREG = 8, "__HYPERVISOR_set_debugreg";
        GET_DEBUGREG = 9, "__HYPERVISOR_get_debugreg";
        UPDATE_DESCRIPTOR = 10, "__HYPERVISOR_update_descriptor";
        MEMORY_OP = 12, "__HYPERVISOR_memory_op";
        MULTICALL = 13, "__HYPERVISOR_multicall";
        UPDATE_VA_MAPPING = 14, "__HYPERVISOR_update_va_mapping";
        SET_TIMER_OP = 15, "__HYPERVISOR_set_timer_op";
        EVENT_CHANNEL_OP_COMPAT = 16, "__HYPERVISOR_event_channel_op_compat";
        XEN_VERSION = 17, "__HYPERVISOR_xen_version";
        CONSOLE_IO = 18, "__HYPERVISOR_console_io";
        PHYSDEV_OP_COMPAT = 19, "__HYPERVISOR_physdev_op_compat";
        GRANT_TABLE_OP = 20, "__HYPERVISOR_grant_table_op";
        VM_ASSIST = 21, "__HYPERVISOR_vm_assist";
        UPDATE_VA_MAPPING_OTHERDOMAIN = 22, "__HYPERVISOR_update_va_mapping_otherdomain";
        IRET = 23, "__HYPERVISOR_iret";
        VCPU_OP = 24, "__HYPERVISOR_vcpu_op";
        SET_SEGMENT_BASE = 25, "__HYPERVISOR_set_segment_base";
        MMUEXT_OP = 26, "__HYPERVISOR_mmuext_op";
        XSM_OP = 27, "__HYPERVISOR_xsm_op";
        NMI_OP = 28, "__HYPERVISOR_nmi_op";
        SCHED_OP = 29, "__HYPERVISOR_sched_op";
        CALLBACK_OP = 30, "__HYPERVISOR_callback_op";
        XENOPROF_OP = 31, "__HYPERVISOR_xenoprof_op";
        EVENT_CHANNEL_OP = 32, "__HYPERVISOR_event_channel_op";
        PHYSDEV_OP = 33, "__HYPERVISOR_physdev_op";
        HVM_OP = 34, "__HYPERVISOR_hvm_op";
        SYSCTL = 35, "__HYPERVISOR_sysctl";
        DOMCTL = 36, "__HYPERVISOR_domctl";
        KEXEC_OP = 37, "__HYPERVISOR_kexec_op";
        TMEM_OP = 38, "__HYPERVISOR_tmem_op";
        ARGO_OP = 39, "__HYPERVISOR_argo_op";
        XENPMU_OP = 40, "__HYPERVISOR_xenpmu_op";
        DM_OP = 41, "__HYPERVISOR_dm_op";
        HYPFS_OP = 42, "__HYPERVISOR_hypfs_op";
        ARCH_0 = 48, "__HYPERVISOR_arch_0";
        ARCH_1 = 49, "__HYPERVISOR_arch_1";
        ARCH_2 = 50, "__HYPERVISOR_arch_2";
        ARCH_3 = 51, "__HYPERVISOR_arch_3";
        ARCH_4 = 52, "__HYPERVISOR_arch_4";
        ARCH_5 = 53, "__HYPERVISOR_arch_5";
        ARCH_6 = 54, "__HYPERVISOR_arch_6";
        ARCH_7 = 55, "__HYPERVISOR_arch_7";
    }
}

numbers! { NUMBERS_U32, "xen.h", u32;
    VIRQ_TIMER = 0, "VIRQ_TIMER";
    VIRQ_DEBUG = 1, "VIRQ_DEBUG";
    VIRQ_CONSOLE = 2, "VIRQ_CONSOLE";
    VIRQ_DOM_EXC = 3, "VIRQ_DOM_EXC";
    VIRQ_TBUF = 4, "VIRQ_TBUF";
    VIRQ_DEBUGGER = 6, "VIRQ_DEBUGGER";
    VIRQ_XENOPROF = 7, "VIRQ_XENOPROF";
    VIRQ_CON_RING = 8, "VIRQ_CON_RING";
    VIRQ_PCPU_STATE = 9, "VIRQ_PCPU_STATE";
    VIRQ_MEM_EVENT = 10, "VIRQ_MEM_EVENT";
    VIRQ_ARGO = 11, "VIRQ_ARGO";
    VIRQ_ENOMEM = 12, "VIRQ_ENOMEM";
    VIRQ_XENPMU = 13, "VIRQ_XENPMU";
    VIRQ_ARCH_0 = 16, "VIRQ_ARCH_0";
    VIRQ_ARCH_1 = 17, "VIRQ_ARCH_1";
    VIRQ_ARCH_2 = 18, "VIRQ_ARCH_2";
    VIRQ_ARCH_3 = 19, "VIRQ_ARCH_3";
    VIRQ_ARCH_4 = 20, "VIRQ_ARCH_4";
    VIRQ_ARCH_5 = 21, "VIRQ_ARCH_5";
    VIRQ_ARCH_6 = 22, "VIRQ_ARCH_6";
    VIRQ_ARCH_7 = 23, "VIRQ_ARCH_7";
    NR_VIRQS = 24, "NR_VIRQS";
    MMUEXT_PIN_L1_TABLE = 0, "MMUEXT_PIN_L1_TABLE";
    MMUEXT_PIN_L2_TABLE = 1, "MMUEXT_PIN_L2_TABLE";
    MMUEXT_PIN_L3_TABLE = 2, "MMUEXT_PIN_L3_TABLE";
    MMUEXT_PIN_L4_TABLE = 3, "MMUEXT_PIN_L4_TABLE";
    MMUEXT_UNPIN_TABLE = 4, "MMUEXT_UNPIN_TABLE";
    MMUEXT_NEW_BASEPTR = 5, "MMUEXT_NEW_BASEPTR";
    MMUEXT_TLB_FLUSH_LOCAL = 6, "MMUEXT_TLB_FLUSH_LOCAL";
    MMUEXT_INVLPG_LOCAL = 7, "MMUEXT_INVLPG_LOCAL";
    MMUEXT_TLB_FLUSH_MULTI = 8, "MMUEXT_TLB_FLUSH_MULTI";
    MMUEXT_INVLPG_MULTI = 9, "MMUEXT_INVLPG_MULTI";
    MMUEXT_TLB_FLUSH_ALL = 10, "MMUEXT_TLB_FLUSH_ALL";
    MMUEXT_INVLPG_ALL = 11, "MMUEXT_INVLPG_ALL";
    MMUEXT_FLUSH_CACHE = 12, "MMUEXT_FLUSH_CACHE";
    MMUEXT_SET_LDT = 13, "MMUEXT_SET_LDT";
    MMUEXT_NEW_USER_BASEPTR = 15, "MMUEXT_NEW_USER_BASEPTR";
    MMUEXT_CLEAR_PAGE = 16, "MMUEXT_CLEAR_PAGE";
    MMUEXT_COPY_PAGE = 17, "MMUEXT_COPY_PAGE";
    MMUEXT_FLUSH_CACHE_GLOBAL = 18, "MMUEXT_FLUSH_CACHE_GLOBAL";
    MMUEXT_MARK_SUPER = 19, "MMUEXT_MARK_SUPER";
    MMUEXT_UNMARK_SUPER = 20, "MMUEXT_UNMARK_SUPER";
    CONSOLEIO_WRITE = 0, "CONSOLEIO_write";
    CONSOLEIO_READ = 1, "CONSOLEIO_read";
    VMASST_CMD_ENABLE = 0, "VMASST_CMD_enable";
    VMASST_CMD_DISABLE = 1, "VMASST_CMD_disable";
    VMASST_TYPE_4GB_SEGMENTS = 0, "VMASST_TYPE_4gb_segments";
    VMASST_TYPE_4GB_SEGMENTS_NOTIFY = 1, "VMASST_TYPE_4gb_segments_notify";
    VMASST_TYPE_WRITABLE_PAGETABLES = 2, "VMASST_TYPE_writable_pagetables";
    VMASST_TYPE_PAE_EXTENDED_CR3 = 3, "VMASST_TYPE_pae_extended_cr3";
    VMASST_TYPE_ARCHITECTURAL_IOPL = 4, "VMASST_TYPE_architectural_iopl";
    VMASST_TYPE_RUNSTATE_UPDATE_FLAG = 5, "VMASST_TYPE_runstate_update_flag";
    VMASST_TYPE_M2P_STRICT = 32, "VMASST_TYPE_m2p_strict";
    XEN_PVCLOCK_TSC_STABLE_BIT = 1, "XEN_PVCLOCK_TSC_STABLE_BIT";
    XEN_PVCLOCK_GUEST_STOPPED = 2, "XEN_PVCLOCK_GUEST_STOPPED";
    SIF_PRIVILEGED = 1, "SIF_PRIVILEGED";
    SIF_INITDOMAIN = 2, "SIF_INITDOMAIN";
    SIF_MULTIBOOT_MOD = 4, "SIF_MULTIBOOT_MOD";
    SIF_MOD_START_PFN = 8, "SIF_MOD_START_PFN";
    SIF_VIRT_P2M_4TOOLS = 16, "SIF_VIRT_P2M_4TOOLS";
    SIF_PM_MASK = 0xff00, "SIF_PM_MASK";
    XEN_VGATYPE_TEXT_MODE_3 = 3, "XEN_VGATYPE_TEXT_MODE_3";
    XEN_VGATYPE_VESA_LFB = 35, "XEN_VGATYPE_VESA_LFB";
    XEN_VGATYPE_EFI_LFB = 112, "XEN_VGATYPE_EFI_LFB";
}

numbers! { NUMBERS_U64, "xen.h", u64;
    MMU_NORMAL_PT_UPDATE = 0, "MMU_NORMAL_PT_UPDATE";
    MMU_MACHPHYS_UPDATE = 1, "MMU_MACHPHYS_UPDATE";
    MMU_PT_UPDATE_PRESERVE_AD = 2, "MMU_PT_UPDATE_PRESERVE_AD";
    MMU_PT_UPDATE_NO_TRANSLATE = 3, "MMU_PT_UPDATE_NO_TRANSLATE";
    UVMF_NONE = 0, "UVMF_NONE";
    UVMF_TLB_FLUSH = 1, "UVMF_TLB_FLUSH";
    UVMF_INVLPG = 2, "UVMF_INVLPG";
    UVMF_FLUSHTYPE_MASK = 3, "UVMF_FLUSHTYPE_MASK";
    UVMF_MULTI = 0, "UVMF_MULTI";
    UVMF_LOCAL = 0, "UVMF_LOCAL";
    UVMF_ALL = 4, "UVMF_ALL";
}

numbers! { NUMBERS_U16, "xen.h", u16;
    DOMID_FIRST_RESERVED = 0x7ff0, "DOMID_FIRST_RESERVED";
    DOMID_SELF = 0x7ff0, "DOMID_SELF";
    DOMID_IO = 0x7ff1, "DOMID_IO";
    DOMID_XEN = 0x7ff2, "DOMID_XEN";
    DOMID_COW = 0x7ff3, "DOMID_COW";
    DOMID_INVALID = 0x7ff4, "DOMID_INVALID";
    DOMID_IDLE = 0x7fff, "DOMID_IDLE";
    DOMID_MASK = 0x7fff, "DOMID_MASK";
}

numbers! { NUMBERS_USIZE, "xen.h", usize;
    MAX_GUEST_CMDLINE = 0x400, "MAX_GUEST_CMDLINE";
}

two_widths! {
    /// One request of `MMUEXT_*`. `cmd` determines the meaning of the arguments.
    pub struct MmuextOp {
        /// The sub-operation, one of `MMUEXT_*`.
        pub cmd: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
        /// Frame number (pin, unpin, base pointers, clear, copy) or linear address (INVLPG, SET_LDT).
        pub arg1: u64 => u32,
        /// `nr_ents` (SET_LDT), guest pointer to a vCPU mask (the `_MULTI` forms) or source frame (COPY_PAGE).
        pub arg2: u64 => u32,
    }
}

layout! { MmuextOp = "struct mmuext_op", 24, narrow 12;
    cmd 0, arg1 8 "arg1.mfn", arg2 16 "arg2.src_mfn"
}

/// One request of mmu_update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MmuUpdate {
    /// Machine address of the entry; its low two bits are the `MMU_*` command.
    pub ptr: u64,
    /// The new entry, or the pseudo-physical frame number for `MMU_MACHPHYS_UPDATE`.
    pub val: u64,
}

layout! { MmuUpdate = "struct mmu_update", 16;
    ptr 0, val 8
}

two_widths! {
    /// One call of a multicall.
    pub struct MulticallEntry {
        /// Number of the hypercall.
        pub op: u64 => u32,
        /// Written back: result of the call.
        pub result: u64 => u32,
        /// The arguments of the call.
        pub args: [u64; 6] => [u32; 6],
    }
}

layout! { MulticallEntry = "struct multicall_entry", 64, narrow 32;
    op 0, result 8, args 16
}

/// A vCPU's clock. System time in nanoseconds is `system_time + (((tsc - tsc_timestamp) << tsc_shift) *
/// tsc_to_system_mul >> 32)`. `version` is odd while the hypervisor writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while the hypervisor writes; a reader compares it before and after.
    pub version: u32,
    /// Padding, written as zero.
    pub pad0: u32,
    /// Value of the TSC at the last update.
    pub tsc_timestamp: u64,
    /// System time at the last update: nanoseconds since boot.
    pub system_time: u64,
    /// Nanoseconds in a shifted tick, as a 32-bit fraction.
    pub tsc_to_system_mul: u32,
    /// Left shift (right if negative) before the multiplication.
    pub tsc_shift: i8,
    /// A combination of `XEN_PVCLOCK_*` flags.
    pub flags: u8,
    /// Padding, written as zero.
    pub pad1: [u8; 2],
}

layout! { VcpuTimeInfo = "struct vcpu_time_info", 32;
    version 0, pad0 4, tsc_timestamp 8, system_time 16, tsc_to_system_mul 24, tsc_shift 28, flags 29, pad1 30
}

two_widths! {
    /// State of a vCPU that it shares with the hypervisor: event upcall flags, selector, clock.
    pub struct VcpuInfo {
        /// Non-zero if an event is pending.
        pub evtchn_upcall_pending: u8,
        /// Non-zero: upcalls are masked (the virtual interrupt flag, inverted).
        pub evtchn_upcall_mask: u8,
        #[doc(hidden)]
        pub _gap0: [u8; 6] => [u8; 2],
        /// 2-level ABI: a bit for each word of `evtchn_pending` that has a new bit.
        pub evtchn_pending_sel: u64 => u32,
        /// Address of the last page fault.
        pub arch: ArchVcpuInfo,
        /// The vCPU's clock.
        pub time: VcpuTimeInfo,
    }
}

layout! { VcpuInfo = "struct vcpu_info", 64, narrow 64;
    evtchn_upcall_pending 0, evtchn_upcall_mask 1, evtchn_pending_sel 8, arch 16, time 32
}

two_widths! {
    /// The page shared between a domain and the hypervisor.
    pub struct SharedInfo {
        /// State of the first 32 vCPUs, until `VCPUOP_REGISTER_VCPU_INFO` moves it.
        pub vcpu_info: [VcpuInfo; XEN_LEGACY_MAX_VCPUS],
        /// 2-level ABI: pending bit of each port.
        pub evtchn_pending: [u64; 64] => [u32; 32],
        /// 2-level ABI: mask bit of each port.
        pub evtchn_mask: [u64; 64] => [u32; 32],
        /// Odd while the wall clock is written.
        pub wc_version: u32,
        /// Seconds since the epoch at system time 0, low half.
        pub wc_sec: u32,
        /// Nanoseconds part of the wall clock.
        pub wc_nsec: u32,
        /// Seconds since the epoch, high half (a narrow guest has it in `arch`).
        pub wc_sec_hi: u32 => [u32; 0],
        /// Location of the P2M, for tools.
        pub arch: ArchSharedInfo,
    }
}

layout! { SharedInfo = "struct shared_info", 3136, narrow 2344;
    vcpu_info 0, evtchn_pending 2048, evtchn_mask 2560, wc_version 3072, wc_sec 3076, wc_nsec 3080, wc_sec_hi 3084, arch 3088
}

two_widths! {
    /// The start information of a PV kernel, which finds its address in rsi or esi.
    pub struct StartInfo {
        /// `START_INFO_MAGIC` or `START_INFO_MAGIC_NARROW`, and a NUL.
        pub magic: [u8; 32],
        /// Number of pages that the domain has.
        pub nr_pages: u64 => u32,
        /// Machine address of the shared info page.
        pub shared_info: u64 => u32,
        /// A combination of `SIF_*` flags.
        pub flags: u32,
        #[doc(hidden)]
        pub _gap0: [u8; 4] => [u8; 0],
        /// Machine frame of the Xenstore ring.
        pub store_mfn: u64 => u32,
        /// Event channel of the Xenstore ring; 0: none.
        pub store_evtchn: u32,
        #[doc(hidden)]
        pub _gap1: [u8; 4] => [u8; 0],
        /// Machine frame of the console ring (for domain 0, offset and size of the VGA information instead).
        pub console_mfn: u64 => u32,
        /// Event channel of the console ring.
        pub console_evtchn: u32,
        #[doc(hidden)]
        pub _gap2: [u8; 4] => [u8; 0],
        /// Virtual address of the root table.
        pub pt_base: u64 => u32,
        /// Number of page-table frames at `pt_base`.
        pub nr_pt_frames: u64 => u32,
        /// Virtual address of the P2M list.
        pub mfn_list: u64 => u32,
        /// Virtual address (or frame, with `SIF_MOD_START_PFN`) of the module.
        pub mod_start: u64 => u32,
        /// Size of the module in bytes.
        pub mod_len: u64 => u32,
        /// The command line, NUL-terminated.
        pub cmd_line: [u8; MAX_GUEST_CMDLINE],
        /// First pseudo-physical frame of a P2M list outside the initial mapping.
        pub first_p2m_pfn: u64 => u32,
        /// Number of frames of that P2M list.
        pub nr_p2m_frames: u64 => u32,
    }
}

layout! { StartInfo = "struct start_info", 1168, narrow 1112;
    magic 0, nr_pages 32, shared_info 40, flags 48, store_mfn 56, store_evtchn 64, console_mfn 72 "console.domU.mfn", console_evtchn 80 "console.domU.evtchn", pt_base 88, nr_pt_frames 96, mfn_list 104, mod_start 112, mod_len 120, cmd_line 128, first_p2m_pfn 1152, nr_p2m_frames 1160
}

/// An entry of the list to which `mod_start` points with `SIF_MULTIBOOT_MOD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MultibootModList {
    /// Address of the module.
    pub mod_start: u32,
    /// Address after the module.
    pub mod_end: u32,
    /// Address of the module's command line.
    pub cmdline: u32,
    /// Padding; must be zero.
    pub pad: u32,
}

layout! { MultibootModList = "struct xen_multiboot_mod_list", 16;
    mod_start 0, mod_end 4, cmdline 8, pad 12
}

/// The screen that domain 0 inherits, for graphical modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VgaConsoleInfo {
    /// The type, one of `XEN_VGATYPE_*`.
    pub video_type: u8,
    #[doc(hidden)]
    pub _union_gap: [u8; 3],
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// Length of a line in bytes.
    pub bytes_per_line: u16,
    /// Number of bits in a pixel.
    pub bits_per_pixel: u16,
    /// Physical address of the frame buffer, low half.
    pub lfb_base: u32,
    /// Size of the frame buffer in units of 64 KiB.
    pub lfb_size: u32,
    /// Position of the red bits in a pixel.
    pub red_pos: u8,
    /// Number of red bits in a pixel.
    pub red_size: u8,
    /// Position of the green bits in a pixel.
    pub green_pos: u8,
    /// Number of green bits in a pixel.
    pub green_size: u8,
    /// Position of the blue bits in a pixel.
    pub blue_pos: u8,
    /// Number of blue bits in a pixel.
    pub blue_size: u8,
    /// Position of the reserved bits in a pixel.
    pub rsvd_pos: u8,
    /// Number of reserved bits in a pixel.
    pub rsvd_size: u8,
    /// Capabilities as VBE reports them.
    pub gbl_caps: u32,
    /// Mode attributes as VBE reports them.
    pub mode_attrs: u16,
    /// Padding, written as zero.
    pub pad: u16,
    /// Physical address of the frame buffer, high half.
    pub ext_lfb_base: u32,
}

layout! { VgaConsoleInfo = "struct dom0_vga_console_info", 40;
    video_type 0, width 4 "u.vesa_lfb.width", height 6 "u.vesa_lfb.height", bytes_per_line 8 "u.vesa_lfb.bytes_per_line", bits_per_pixel 10 "u.vesa_lfb.bits_per_pixel", lfb_base 12 "u.vesa_lfb.lfb_base", lfb_size 16 "u.vesa_lfb.lfb_size", red_pos 20 "u.vesa_lfb.red_pos", red_size 21 "u.vesa_lfb.red_size", green_pos 22 "u.vesa_lfb.green_pos", green_size 23 "u.vesa_lfb.green_size", blue_pos 24 "u.vesa_lfb.blue_pos", blue_size 25 "u.vesa_lfb.blue_size", rsvd_pos 26 "u.vesa_lfb.rsvd_pos", rsvd_size 27 "u.vesa_lfb.rsvd_size", gbl_caps 28 "u.vesa_lfb.gbl_caps", mode_attrs 32 "u.vesa_lfb.mode_attrs", pad 34 "u.vesa_lfb.pad", ext_lfb_base 36 "u.vesa_lfb.ext_lfb_base"
}

/// A bitmap in the caller's memory (CPU and node maps).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CtlBitmap {
    /// Pointer to the bitmap's bytes.
    pub bitmap: GuestHandle64,
    /// Number of bits that may be read or written.
    pub nr_bits: u32,
    #[doc(hidden)]
    pub _gap0: [u8; 4],
}

layout! { CtlBitmap = "struct xenctl_bitmap", 16;
    bitmap 0, nr_bits 8
}

/// `StartInfo::magic` of a 64-bit PV domain, before the NUL padding.
pub const START_INFO_MAGIC: &[u8] = b"xen-3.0-x86_64";
/// `StartInfo::magic` of a 32-bit PV domain, before the NUL padding.
pub const START_INFO_MAGIC_NARROW: &[u8] = b"xen-3.0-x86_32p";

impl StartInfo {
    /// The command line without its NUL.
    #[must_use]
    pub fn cmd_line_bytes(&self) -> &[u8] {
        self.cmd_line
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or(&self.cmd_line)
    }
}

impl VcpuTimeInfo {
    /// System time in nanoseconds at the moment when the TSC reads `tsc`.
    #[must_use]
    pub fn system_time_at(&self, tsc: u64) -> u64 {
        let ticks = tsc.wrapping_sub(self.tsc_timestamp);
        let shift = u32::from(self.tsc_shift.unsigned_abs());
        let scaled = if self.tsc_shift < 0 {
            ticks.checked_shr(shift).unwrap_or(0)
        } else {
            ticks.wrapping_shl(shift)
        };
        let elapsed = (u128::from(scaled) * u128::from(self.tsc_to_system_mul)) >> 32;
        self.system_time.wrapping_add(elapsed as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::VcpuTimeInfo;

    #[test]
    fn a_clock_at_each_shift() {
        let time = VcpuTimeInfo {
            tsc_timestamp: 1000,
            system_time: 500,
            tsc_to_system_mul: 1 << 31,
            ..VcpuTimeInfo::default()
        };
        let at = |tsc_shift| VcpuTimeInfo { tsc_shift, ..time }.system_time_at(3000);
        assert_eq!(at(0), 1500);
        assert_eq!(at(-1), 1000);
        assert_eq!(at(1), 2500);
    }
}
