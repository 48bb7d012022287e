//! The state that only a PV vCPU has, and the rules that keep it sound: descriptor tables and the window that
//! maps them, the two modes for kernel and user code, and the roots of their address spaces.
//!
//! Nothing here knows a domain: functions take the [`State`] and the owner's id. `domain` holds a [`State`] for
//! each vCPU; the rest of [`crate::pv`] is above `domain` and acts on whole vCPUs.

pub mod area;
pub mod gdt;
pub mod ldt;
pub mod mode;
pub mod monitor;

use alloc::boxed::Box;

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::narrow::{Callback as Entry, FLAT_RING1_CS};
use guest_pv_abi::arch_x86::{FLAT_KERNEL_CS, TrapInfo};
use guest_pv_abi::xen::{
    VMASST_TYPE_4GB_SEGMENTS, VMASST_TYPE_4GB_SEGMENTS_NOTIFY, VMASST_TYPE_ARCHITECTURAL_IOPL,
    VMASST_TYPE_PAE_EXTENDED_CR3, VMASST_TYPE_RUNSTATE_UPDATE_FLAG,
    VMASST_TYPE_WRITABLE_PAGETABLES,
};
use zerocopy::FromZeros;

use crate::arch::cr::{self, cr0, cr4};
use crate::arch::exception;
use crate::arch::frame::{Mode, TrapFrame};
use crate::kit::{Mfn, VcpuId};
use crate::pagetype::window::Window;
use crate::pagetype::{DomainPages, GuestRoot, Work, machine};
use gdt::GuestGdt;
use ldt::GuestLdt;
use monitor::Monitor;

/// A flag of `struct trap_info`: the entry masks event delivery.
const TI_MASKS_EVENTS: u8 = 4;
/// The initial CR4 of a PV guest: PAE, OSFXSR and OSXMMEXCPT, which the guest can't clear.
const FIRST_CR4: u64 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT;

/// The assists that a 64-bit PV guest may enable. The two for segments and the one for page tables have no effect on 64
/// bits, where Xen accepts them too. `m2p_strict` is not among them: a kernel that enables it wants the
/// machine-to-physical table hidden from its user mode, and learns by the error that it isn't.
pub const ASSISTS: u64 = 1 << VMASST_TYPE_4GB_SEGMENTS
    | 1 << VMASST_TYPE_4GB_SEGMENTS_NOTIFY
    | 1 << VMASST_TYPE_WRITABLE_PAGETABLES
    | 1 << VMASST_TYPE_PAE_EXTENDED_CR3
    | 1 << VMASST_TYPE_ARCHITECTURAL_IOPL
    | 1 << VMASST_TYPE_RUNSTATE_UPDATE_FLAG;

/// The part of a PV vCPU's state that only the CPU that runs it touches, or the CPU that holds it descheduled.
pub struct State {
    /// The width of the guest's kernel, set with the vCPU's first registers.
    pub width: Width,
    /// Whether the guest's kernel or its user code runs. A narrow guest's kernel can leave its ring without the
    /// hypervisor, so for such a vCPU this is found anew at each trap.
    pub mode: Mode,
    /// The trap table: handlers of exceptions and of `int n`, each with the privilege that `int n` needs.
    pub traps: Box<[TrapInfo; 256]>,
    /// The entry points for events, system calls and failed returns.
    pub callbacks: Callbacks,
    /// What a narrow guest has in place of the previous two, which stay empty then. So the path into the kernel of a
    /// wide guest, on which every instruction counts, finds no handler, and only then is the width asked for.
    pub narrow: Option<Box<Entries>>,
    /// The stack of the guest's kernel, loaded when a trap leaves user mode.
    pub kernel_sp: u64,
    /// The selector of that stack, as the guest has set it.
    pub kernel_ss: u16,
    /// The root of the kernel's address space; `None` until the vCPU is initialised.
    pub kernel_root: Option<GuestRoot>,
    /// The root of the address space of user code, if there is one.
    pub user_root: Option<GuestRoot>,
    /// The L4 on which a CPU runs a narrow vCPU; `None` for a wide one, which runs on its roots themselves.
    pub monitor: Option<Monitor>,
    /// The GDT as the guest registered it.
    pub gdt: GuestGdt,
    /// The LDT as the guest set it.
    pub ldt: GuestLdt,
    /// The vCPU's window in the per-domain area.
    pub window: Window,
    /// CR0.TS as the guest sees it; its other bits of CR0 are those of [`crate::arch::cr::CR0`].
    pub task_switched: bool,
    /// CR2 as the guest sees it: the address of the last page fault that was injected.
    pub cr2: u64,
    /// CR4 as the guest sees it.
    pub cr4: u64,
    /// Whether the vCPU is in its NMI handler: the next NMI waits until its iret.
    pub nmi_masked: bool,
    /// The virtual I/O privilege level, 0 to 3.
    pub iopl: u8,
    /// The I/O bitmap of PHYSDEVOP_set_iobitmap: its guest address, and the number of ports that it covers.
    pub iobmp: (u64, u32),
    /// The segment registers while the vCPU doesn't run.
    pub segments: Segments,
}

/// The entry points of a narrow guest.
#[derive(FromZeros)]
pub struct Entries {
    /// The trap table.
    pub traps: [TrapInfo; 256],
    /// The entry points for events, system calls and failed returns.
    pub callbacks: Callbacks,
    /// The handler that the hypervisor made the vCPU enter last.
    pub entered: Entered,
}

/// Where a narrow vCPU enters a handler: the registers that IRET loads.
#[derive(Clone, Copy, Default, PartialEq, Eq, FromZeros)]
#[cfg_attr(clippy, expect(missing_docs, reason = "the registers' names"))]
pub struct Entered {
    pub cs: u64,
    pub rip: u64,
    pub ss: u64,
    pub rsp: u64,
}

impl Entered {
    /// What the frame has for IRET to load.
    pub const fn of(regs: &TrapFrame) -> Self {
        let &TrapFrame {
            cs, rip, ss, rsp, ..
        } = regs;
        Self { cs, rip, ss, rsp }
    }
}

/// An entry point that a guest registered.
#[derive(Clone, Copy, Default, FromZeros)]
pub struct Callback {
    /// Its virtual address; 0 if it isn't registered.
    pub entry: u64,
    /// Its code selector, which only counts for a narrow guest.
    pub cs: u16,
    /// Non-zero if the entry masks event delivery (CALLBACKF_mask_events).
    pub masks_events: u8,
}

impl Callback {
    /// Whether a guest of this width has registered it. The null selector names no segment, so a narrow guest has none.
    pub const fn is_registered(&self, width: Width) -> bool {
        match width {
            Width::Wide => self.entry != 0,
            Width::Narrow => !is_null(self.cs),
        }
    }

    /// An entry point as a guest of this width names it in a word: by its address, or, if the guest is narrow, with the
    /// code selector in the upper half.
    pub fn of_word(width: Width, word: u64, masks_events: u8) -> Self {
        let (entry, cs) = match width {
            Width::Wide => (word, FLAT_KERNEL_CS),
            Width::Narrow => {
                let Entry { cs, eip } = Entry::from_word(word);
                (eip.into(), outside_ring0(width, cs as u16))
            }
        };
        Self {
            entry,
            cs,
            masks_events,
        }
    }

    /// The word for [`Self::of_word`].
    pub fn word(&self, width: Width) -> u64 {
        match width {
            Width::Wide => self.entry,
            Width::Narrow => {
                let (cs, eip) = (self.cs.into(), self.entry as u32);
                Entry { cs, eip }.to_word()
            }
        }
    }
}

/// The entry points that `callback_op` registers, by type.
#[derive(Clone, Copy, Default, FromZeros)]
pub struct Callbacks {
    /// CALLBACKTYPE_event: an event is pending.
    pub event: Callback,
    /// CALLBACKTYPE_failsafe: a segment register could not be loaded.
    pub failsafe: Callback,
    /// CALLBACKTYPE_syscall: SYSCALL from 64-bit user code.
    pub syscall: Callback,
    /// CALLBACKTYPE_syscall32: SYSCALL from 32-bit user code.
    pub syscall32: Callback,
    /// CALLBACKTYPE_sysenter: SYSENTER from user code.
    pub sysenter: Callback,
}

/// Segment selectors and bases, saved while the vCPU doesn't run.
#[derive(Clone, Copy, Default)]
#[cfg_attr(clippy, expect(missing_docs, reason = "the registers' names"))]
pub struct Segments {
    pub ds: u16,
    pub es: u16,
    pub fs: u16,
    pub gs: u16,
    pub fs_base: u64,
    /// The base of gs in kernel mode.
    pub gs_base_kernel: u64,
    /// The base of gs in user mode.
    pub gs_base_user: u64,
}

impl State {
    /// Makes the state of a vCPU that has no registers yet; nothing if there is no memory.
    #[inline(always)] // built in place, not copied
    pub fn new(window: Window) -> Option<Self> {
        let traps = <[TrapInfo; 256]>::new_box_zeroed().ok()?;
        Some(Self {
            width: Width::Wide,
            mode: Mode::Kernel,
            traps,
            callbacks: Callbacks::default(),
            narrow: None,
            kernel_sp: 0,
            kernel_ss: 0,
            kernel_root: None,
            user_root: None,
            monitor: None,
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

    /// The trap table and the entry points of the guest, whichever its width.
    pub fn entries_mut(&mut self) -> (&mut [TrapInfo; 256], &mut Callbacks) {
        match &mut self.narrow {
            Some(narrow) => (&mut narrow.traps, &mut narrow.callbacks),
            None => (&mut self.traps, &mut self.callbacks),
        }
    }

    /// The same for reading.
    pub fn entries(&self) -> (&[TrapInfo; 256], &Callbacks) {
        match &self.narrow {
            Some(narrow) => (&narrow.traps, &narrow.callbacks),
            None => (&self.traps, &self.callbacks),
        }
    }

    /// CR0 as the guest sees it.
    pub const fn cr0(&self) -> u64 {
        cr::CR0 | if self.task_switched { cr0::TS } else { 0 }
    }

    /// Sets the guest's CR0, of which TS counts, and loads TS into the CPU that runs it.
    #[inline]
    pub fn set_cr0(&mut self, value: u64) {
        self.task_switched = value & cr0::TS != 0;
        if self.task_switched {
            cr::set_ts();
        } else {
            cr::clts();
        }
    }

    /// Returns the frame of the kernel's root, the L4 of a wide guest or the L3 of a narrow one.
    pub fn kernel_l4(&self) -> Option<Mfn> {
        self.kernel_root.as_ref().map(GuestRoot::mfn)
    }

    /// Makes `address` the handler of NMIs (vector 2), which masks events. Address 0 removes the handler.
    pub fn set_nmi_handler(&mut self, address: u64) {
        let cs = match self.width {
            Width::Wide => FLAT_KERNEL_CS,
            Width::Narrow => FLAT_RING1_CS,
        };
        if let Some(slot) = self.entries_mut().0.get_mut(usize::from(exception::NMI)) {
            *slot = match address {
                0 => TrapInfo::new_zeroed(),
                _ => TrapInfo {
                    vector: exception::NMI,
                    flags: TI_MASKS_EVENTS,
                    cs,
                    address,
                    ..TrapInfo::new_zeroed()
                },
            };
        }
    }

    /// Drops all references that the state holds. A table that is left half taken apart is in `work` afterwards.
    pub fn release(&mut self, pages: &DomainPages, vcpu: VcpuId, work: &mut Work) {
        let _ = pages.drop_ldt_pages_of(vcpu);
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

/// Whether the selector names no segment, so that a handler of a narrow guest with it is none.
pub const fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

/// Whether the entry into a handler masks event delivery.
pub const fn masks_events(trap: &TrapInfo) -> bool {
    trap.flags & TI_MASKS_EVENTS != 0
}

/// The selector with privilege level 3. Selectors from a wide guest pass through here, so that none names a segment of
/// ring 0.
pub const fn in_ring3(selector: u16) -> u16 {
    selector | 3
}

/// The selector with a privilege level that a guest of this width may have: 3, or 1 to 3 for a narrow guest.
pub const fn outside_ring0(width: Width, selector: u16) -> u16 {
    match (width, selector & 3) {
        (Width::Wide, _) => in_ring3(selector),
        (Width::Narrow, 0) => selector | 1,
        (Width::Narrow, _) => selector,
    }
}
