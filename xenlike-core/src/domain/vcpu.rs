//! Virtual CPUs: what others may look at, and what only the CPU that runs one touches.

use crate::kit::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};

use guest_pv_abi::arch_x86::TrapInfo;
use zerocopy::FromZeros;

use super::Domain;
use super::gate::Gate;
use super::info::VcpuInfo;
use super::runstate::Runstate;
use super::window::Window;
use super::{gdt, ldt};
use crate::arch::frame::TrapFrame;
use crate::arch::{debugreg, fpu, time};
use crate::cpuid::VcpuMsrs;
use crate::kit::cell::Visit;
use crate::kit::{CpuId, CpuSet, DomId, Lock, Mfn, Rank, VcpuId};
use crate::mm::space::Root;
use crate::pagetype::{self, machine};
use crate::sched::UnitId;
use crate::timer::{Key, Timer, What};

/// A virtual CPU. Everything here may be read by any CPU; [`VcpuState`] belongs to one at a time.
pub struct Vcpu {
    /// Its number in its domain.
    pub id: VcpuId,
    /// Its domain.
    pub dom: Weak<Domain>,
    /// What the scheduler calls it.
    pub unit: UnitId,
    /// Where its vcpu_info is: in shared_info, or where the guest registered it.
    pub info: VcpuInfo,
    /// Whether it may run ([`pause`] says why not), and its registers and tables.
    pub gate: Gate<VcpuState>,
    /// The CPU whose registers hold it, plus one; 0 when it is nowhere.
    pub running_on: AtomicU32,
    /// Its deadlines.
    pub timers: VcpuTimers,
    /// How its time was spent.
    pub runstate: Lock<Runstate>,
    /// Deadline of its one-shot timer in ns of system time; 0 when none.
    pub singleshot_ns: AtomicU64,
    /// Period of its periodic timer in ns; 0 when stopped.
    pub periodic_ns: AtomicU64,
    /// An NMI waits for it.
    pub nmi_pending: AtomicU8,
    /// Where else it may run, while SCHEDOP_pin_override keeps it on one CPU.
    pub pinned: Lock<Option<CpuSet>>,
    /// The pages of its LDT that are at hand.
    pub ldt_pages: ldt::Pages,
}

/// Why a vCPU doesn't run: bits of [`Gate::holds`].
pub mod pause {
    /// Not initialised, or down: VCPUOP_up clears it.
    pub const DOWN: u32 = 1;
    /// SCHEDOP_block: an event wakes it.
    pub const BLOCKED: u32 = 2;
    /// SCHEDOP_poll: one of its ports or its timeout wakes it.
    pub const POLLING: u32 = 4;
    /// Its domain has shut down.
    pub const SHUT_DOWN: u32 = 8;
    /// Its domain is being destroyed.
    pub const DYING: u32 = 16;
    /// One pause by the toolstack, or one call that needs the state.
    pub const HELD_ONCE: u32 = 1 << 8;
    /// Held so, at least once: a count.
    pub const HELD: u32 = !0 << 8;
    /// What the vCPU waits for by its own wish.
    pub const SLEEPS: u32 = BLOCKED | POLLING;
}

/// A vCPU's deadlines.
pub struct VcpuTimers {
    /// set_timer_op and VCPUOP_set_singleshot_timer.
    pub singleshot: Timer,
    /// VCPUOP_set_periodic_timer.
    pub periodic: Timer,
    /// SCHEDOP_poll's time limit.
    pub poll: Timer,
}

impl VcpuTimers {
    /// None set, for vCPU `vcpu` of domain `dom`.
    pub const fn new(dom: DomId, vcpu: VcpuId) -> Self {
        Self {
            singleshot: Timer::new(Key {
                dom,
                vcpu,
                what: What::Singleshot,
            }),
            periodic: Timer::new(Key {
                dom,
                vcpu,
                what: What::Periodic,
            }),
            poll: Timer::new(Key {
                dom,
                vcpu,
                what: What::Poll,
            }),
        }
    }
}

/// The most ports that one SCHEDOP_poll may name (Xen's limit too).
pub const MAX_POLL_PORTS: usize = 128;

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

/// A descriptor table as the guest registered it.
#[derive(Clone, Copy, Default)]
pub struct GuestGdt {
    /// Frames, each with a segment-descriptor type reference.
    pub frames: [Option<Mfn>; GDT_GUEST_FRAMES],
    /// Entries, up to 512 a frame.
    pub entries: u32,
}

impl GuestGdt {
    /// How many frames its entries take.
    pub const fn frame_count(&self) -> usize {
        self.entries.div_ceil(GDT_ENTRIES_PER_FRAME) as usize
    }
}

/// Descriptors in a frame.
pub const GDT_ENTRIES_PER_FRAME: u32 = 512;
/// Frames of a guest's GDT: entries up to 7167 (FIRST_RESERVED_GDT_ENTRY).
pub const GDT_GUEST_FRAMES: usize = 14;

/// The LDT as the guest set it: a linear range.
#[derive(Clone, Copy, Default)]
pub struct GuestLdt {
    /// Linear address of the first descriptor.
    pub base: u64,
    /// Number of descriptors, up to 8192.
    pub entries: u32,
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

/// What only the CPU that runs the vCPU touches, or whoever holds it descheduled.
pub struct VcpuState {
    /// Registers while it does not run; while it runs they are in the CPU's top frame.
    pub regs: TrapFrame,
    /// Guest kernel mode (TF_kernel_mode), as against guest user mode. Both are ring 3.
    pub in_kernel: bool,
    /// VCPUOP_initialise or a control call gave it registers.
    pub initialised: bool,
    /// Exceptions: address, selector, and the privilege that a software interrupt needs.
    pub traps: Box<[TrapInfo; 256]>,
    /// Callbacks.
    pub callbacks: Callbacks,
    /// Stack of the guest kernel, loaded when a trap leaves guest user mode.
    pub kernel_sp: u64,
    /// Its selector.
    pub kernel_ss: u16,
    /// The kernel's L4; has the reference of what was loaded.
    pub kernel_root: Option<Root>,
    /// The user mode's L4.
    pub user_root: Option<Root>,
    /// GDT.
    pub gdt: GuestGdt,
    /// LDT.
    pub ldt: GuestLdt,
    /// Its window in the per-domain area.
    pub window: Window,
    /// CR0 as the guest sees it (TS is the bit that matters).
    pub cr0: u64,
    /// CR2 of the last page fault that it was given.
    pub cr2: u64,
    /// CR4 as the guest sees it.
    pub cr4: u64,
    /// MSRs of its own.
    pub msrs: VcpuMsrs,
    /// It is in its NMI handler: no other NMI is delivered until its next iret.
    pub nmi_masked: bool,
    /// Virtual I/O privilege level, 0 to 3.
    pub iopl: u8,
    /// PHYSDEVOP_set_iobitmap: guest address of the bitmap, and ports it covers.
    pub iobmp: (u64, u32),
    /// Segments.
    pub segments: Segments,
    /// DR0–DR3, DR6, DR7.
    pub debug: [u64; 6],
    /// XSAVE area.
    pub fpu: fpu::State,
    /// XCR0 as the guest set it; 0 until then, and the CPU has x87 and SSE.
    pub xcr0: u64,
    /// A page table that its last call left half taken apart.
    pub work: pagetype::Work,
    /// Version of its time info.
    pub time_version: u32,
    /// Guest address of its runstate area; 0 when none.
    pub runstate_area: u64,
    /// Guest address of its secondary time info; 0 when none.
    pub time_area: u64,
}

/// CR0 as a PV guest first sees it: PE, MP, ET, NE, WP, AM, PG (Xen's value).
const FIRST_CR0: u64 = 0x8005_0033;
/// CR4 likewise: TSD off, DE on or off by the guest; PAE and the FPU's bits are always on.
const FIRST_CR4: u64 = 0x620;

/// No memory for a vCPU's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoState;

impl VcpuState {
    /// Of a vCPU that has no registers yet.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(window: Window) -> Result<Self, NoState> {
        Ok(Self {
            regs: TrapFrame::ZERO,
            in_kernel: true,
            initialised: false,
            traps: <[TrapInfo; 256]>::new_box_zeroed().map_err(|_| NoState)?,
            callbacks: Callbacks::default(),
            kernel_sp: 0,
            kernel_ss: 0,
            kernel_root: None,
            user_root: None,
            gdt: GuestGdt::default(),
            ldt: GuestLdt::default(),
            window,
            cr0: FIRST_CR0,
            cr2: 0,
            cr4: FIRST_CR4,
            msrs: VcpuMsrs::default(),
            nmi_masked: false,
            iopl: 0,
            iobmp: (0, 0),
            segments: Segments::default(),
            debug: [0, 0, 0, 0, debugreg::DR6_IDLE, debugreg::DR7_IDLE],
            fpu: fpu::State::new().ok_or(NoState)?,
            xcr0: 0,
            work: pagetype::Work::new(),
            time_version: 0,
            runstate_area: 0,
            time_area: 0,
        })
    }
}

impl VcpuState {
    /// The frame of the kernel's L4.
    pub fn kernel_l4(&self) -> Option<Mfn> {
        self.kernel_root.map(Root::mfn)
    }
}

impl Vcpu {
    /// vCPU `id` of `dom`: down, and held as often as the toolstack has paused its domain.
    pub fn new(
        id: VcpuId,
        dom: &Arc<Domain>,
        unit: UnitId,
        info: VcpuInfo,
        state: VcpuState,
    ) -> Self {
        let pauses = dom.toolstack_pauses.load(Ordering::Acquire);
        let held = pauses.wrapping_mul(pause::HELD_ONCE);
        Self {
            id,
            dom: Arc::downgrade(dom),
            unit,
            info,
            running_on: AtomicU32::new(0),
            timers: VcpuTimers::new(dom.id(), id),
            runstate: Lock::new(Rank::Runstate, Runstate::new(time::now_ns())),
            singleshot_ns: AtomicU64::new(0),
            periodic_ns: AtomicU64::new(0),
            nmi_pending: AtomicU8::new(0),
            pinned: Lock::new(Rank::Pinned, None),
            ldt_pages: ldt::Pages::new(state.window),
            gate: Gate::new(pause::DOWN | held, state),
        }
    }

    /// Whether nothing keeps it from running.
    pub fn runnable(&self) -> bool {
        self.gate.holds() == 0
    }

    /// Whether it has been brought up (VCPUOP_up) and not down again.
    pub fn is_up(&self) -> bool {
        self.gate.holds() & pause::DOWN == 0
    }

    /// Whether its vcpu_info is there for others to look at: not when its domain is being taken apart.
    /// As with [`Domain::shared_info`], what is there when this is asked stays until this CPU flushes.
    pub fn has_info(&self) -> bool {
        self.gate.holds() & pause::DYING == 0
    }

    /// Its domain, unless that is gone.
    pub fn domain(&self) -> Option<Arc<Domain>> {
        self.dom.upgrade()
    }

    /// Whether an NMI waits for it that it can take.
    pub fn nmi_due(&self, st: &VcpuState) -> bool {
        !st.nmi_masked && self.nmi_pending.load(Ordering::Acquire) != 0
    }

    /// Takes the NMI that waits for it.
    pub fn take_nmi(&self) -> bool {
        self.nmi_pending.swap(0, Ordering::AcqRel) != 0
    }

    /// The CPU whose registers hold it.
    pub fn cpu(&self) -> Option<CpuId> {
        self.running_on
            .load(Ordering::Acquire)
            .checked_sub(1)
            .map(CpuId)
    }

    /// Its state, if it is on no CPU. While the visit lasts, no CPU can start to run it.
    pub fn descheduled(&self) -> Option<Visit<'_, VcpuState>> {
        self.gate.visit()
    }

    /// Gives back the references that its state holds.
    pub fn let_go(&self, st: &mut VcpuState, work: &mut pagetype::Work) {
        let _ = self.ldt_pages.drop_all();
        st.ldt = GuestLdt::default();
        gdt::clear(st);
        for root in [st.kernel_root.take(), st.user_root.take()]
            .into_iter()
            .flatten()
        {
            let _ = machine().put_root(root.mfn(), work);
        }
    }
}
