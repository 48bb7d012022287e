//! The state that only a paravirtual vCPU has, and the rules that keep it sound: descriptor tables and the window that
//! maps them, the two modes of its kernel and user code, and the roots of their address spaces.
//!
//! No domain is in sight here: functions take the [`State`] and the owner's id. `domain` holds a [`State`] for each vCPU;
//! the rest of [`crate::pv`] is above `domain` and acts on whole vCPUs.

pub mod area;
pub mod gdt;
pub mod ldt;
pub mod mode;
pub mod window;

use alloc::boxed::Box;

use guest_pv_abi::arch_x86::{FLAT_KERNEL_CS, TrapInfo};
use guest_pv_abi::xen::{
    VMASST_TYPE_4GB_SEGMENTS, VMASST_TYPE_4GB_SEGMENTS_NOTIFY, VMASST_TYPE_ARCHITECTURAL_IOPL,
    VMASST_TYPE_PAE_EXTENDED_CR3, VMASST_TYPE_RUNSTATE_UPDATE_FLAG,
    VMASST_TYPE_WRITABLE_PAGETABLES,
};
use zerocopy::FromZeros;

use crate::arch::cr::{self, cr0, cr4};
use crate::arch::exception;
use crate::arch::frame::Mode;
use crate::kit::Mfn;
use crate::pagetype::{GuestRoot, Work, machine};
use gdt::GuestGdt;
use ldt::GuestLdt;
use window::Window;

/// TI flag in `struct trap_info`: entering masks event delivery.
const TI_MASKS_EVENTS: u8 = 4;
/// CR4 as a PV guest first sees it: PAE, OSFXSR and OSXMMEXCPT, which it can't clear.
const FIRST_CR4: u64 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT;

/// The assists of a 64-bit PV guest. The two on segments and the one on page tables have no effect
/// on 64 bits, where Xen accepts them too. `m2p_strict` is not among them: a kernel that asks for it
/// wants the machine-to-physical table out of its user mode's reach, and is told that it isn't.
pub const ASSISTS: u64 = 1 << VMASST_TYPE_4GB_SEGMENTS
    | 1 << VMASST_TYPE_4GB_SEGMENTS_NOTIFY
    | 1 << VMASST_TYPE_WRITABLE_PAGETABLES
    | 1 << VMASST_TYPE_PAE_EXTENDED_CR3
    | 1 << VMASST_TYPE_ARCHITECTURAL_IOPL
    | 1 << VMASST_TYPE_RUNSTATE_UPDATE_FLAG;

/// What only the CPU that runs the vCPU touches, or whoever holds it descheduled.
pub struct State {
    /// Whether its kernel or its user code runs. Both are in ring 3.
    pub mode: Mode,
    /// Handlers of exceptions and of `int n`, each with the privilege that an `int n` needs.
    pub traps: Box<[TrapInfo; 256]>,
    /// Callbacks.
    pub callbacks: Callbacks,
    /// Stack of the guest kernel, loaded when a trap leaves user mode.
    pub kernel_sp: u64,
    /// Its selector.
    pub kernel_ss: u16,
    /// The root of the kernel's address space.
    pub kernel_root: Option<GuestRoot>,
    /// The root of the address space of user code, if there is one.
    pub user_root: Option<GuestRoot>,
    /// GDT.
    pub gdt: GuestGdt,
    /// LDT.
    pub ldt: GuestLdt,
    /// Its window in the per-domain area.
    pub window: Window,
    /// CR0.TS as the guest sees it; the other bits of its CR0 are those of [`crate::arch::cr::CR0`].
    pub task_switched: bool,
    /// CR2 of the last page fault that it was given.
    pub cr2: u64,
    /// CR4 as the guest sees it.
    pub cr4: u64,
    /// It is in its NMI handler: no other NMI is delivered until its next iret.
    pub nmi_masked: bool,
    /// Virtual I/O privilege level, 0 to 3.
    pub iopl: u8,
    /// PHYSDEVOP_set_iobitmap: guest address of the bitmap, and ports it covers.
    pub iobmp: (u64, u32),
    /// Segment registers while the vCPU doesn't run.
    pub segments: Segments,
}

/// An entry point that a guest registered, with what it wants done to event delivery.
#[derive(Clone, Copy, Default)]
pub struct Callback {
    /// Virtual address; 0 when not registered.
    pub entry: u64,
    /// CALLBACKF_mask_events: entering masks event delivery.
    pub masks_events: u8,
}

/// Entry points by `callback_op` type.
#[derive(Clone, Copy, Default)]
pub struct Callbacks {
    /// CALLBACKTYPE_event
    pub event: Callback,
    /// CALLBACKTYPE_failsafe
    pub failsafe: Callback,
    /// CALLBACKTYPE_syscall
    pub syscall: Callback,
    /// CALLBACKTYPE_syscall32
    pub syscall32: Callback,
    /// CALLBACKTYPE_sysenter
    pub sysenter: Callback,
}

/// Segment selectors and bases, saved while the vCPU does not run.
#[derive(Clone, Copy, Default)]
pub struct Segments {
    /// ds
    pub ds: u16,
    /// es
    pub es: u16,
    /// fs
    pub fs: u16,
    /// gs
    pub gs: u16,
    /// The base of fs.
    pub fs_base: u64,
    /// The base of gs while the guest is in kernel mode.
    pub gs_base_kernel: u64,
    /// The base of gs while the guest is in user mode.
    pub gs_base_user: u64,
}

impl State {
    /// Of a vCPU in kernel mode that has no registers yet; nothing if there is no memory.
    #[inline(always)] // made in place
    pub fn new(window: Window) -> Option<Self> {
        Some(Self {
            mode: Mode::Kernel,
            traps: <[TrapInfo; 256]>::new_box_zeroed().ok()?,
            callbacks: Callbacks::default(),
            kernel_sp: 0,
            kernel_ss: 0,
            kernel_root: None,
            user_root: None,
            gdt: GuestGdt::default(),
            ldt: GuestLdt::default(),
            window,
            task_switched: false,
            cr2: 0,
            cr4: FIRST_CR4,
            nmi_masked: false,
            iopl: 0,
            iobmp: (0, 0),
            segments: Segments::default(),
        })
    }

    /// CR0 as the guest sees it.
    pub const fn cr0(&self) -> u64 {
        cr::CR0 | if self.task_switched { cr0::TS } else { 0 }
    }

    /// The frame of the kernel's L4.
    pub fn kernel_l4(&self) -> Option<Mfn> {
        self.kernel_root.as_ref().map(GuestRoot::mfn)
    }

    /// Makes `address` the handler of NMIs (vector 2), which masks events; 0 takes it away.
    pub fn set_nmi_handler(&mut self, address: u64) {
        if let Some(slot) = self.traps.get_mut(usize::from(exception::NMI)) {
            *slot = match address {
                0 => TrapInfo::new_zeroed(),
                _ => TrapInfo {
                    vector: exception::NMI,
                    flags: TI_MASKS_EVENTS,
                    cs: FLAT_KERNEL_CS,
                    address,
                    ..TrapInfo::new_zeroed()
                },
            };
        }
    }

    /// Gives back the references that it holds. Frames of page tables that are left half taken apart are in `work`.
    pub fn release(&mut self, ldt_pages: &ldt::Pages, work: &mut Work) {
        let _ = ldt_pages.drop_all();
        self.ldt = GuestLdt::default();
        gdt::clear(self);
        for root in [self.kernel_root.take(), self.user_root.take()]
            .into_iter()
            .flatten()
        {
            let _ = machine().put_root(root, work);
        }
    }
}

/// Whether entering the handler masks event delivery.
pub const fn masks_events(trap: &TrapInfo) -> bool {
    trap.flags & TI_MASKS_EVENTS != 0
}

/// A selector that a guest names, with ring 3 in place of whatever ring it names: never one of the hypervisor's.
pub const fn in_ring3(selector: u16) -> u16 {
    selector | 3
}
