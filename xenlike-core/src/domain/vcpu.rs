//! Virtual CPUs: what others may look at, and what only the CPU that runs one touches.

use crate::kit::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use alloc::sync::{Arc, Weak};

use super::Domain;
use super::gate::Gate;
use super::info::VcpuInfo;
use super::kind::Kind;
use super::runstate::Runstate;
use crate::arch::frame::TrapFrame;
use crate::arch::{debugreg, fpu, time};
use crate::cpuid::VcpuMsrs;
use crate::kit::cell::Visit;
use crate::kit::{CpuId, CpuSet, DomId, Lock, Rank, VcpuId};
use crate::pagetype;
use crate::pv::state::ldt;
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

/// What only the CPU that runs the vCPU touches, or whoever holds it descheduled.
pub struct VcpuState {
    /// Registers while it does not run; while it runs they are in the CPU's top frame.
    pub regs: TrapFrame,
    /// VCPUOP_initialise or a control call gave it registers.
    pub initialised: bool,
    /// What only its kind of guest has.
    pub kind: Kind,
    /// MSRs of its own.
    pub msrs: VcpuMsrs,
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

impl VcpuState {
    /// Of a vCPU that has no registers yet; nothing if there is no memory.
    #[inline(always)] // made in place
    pub fn new(kind: Kind) -> Option<Self> {
        Some(Self {
            regs: TrapFrame::ZERO,
            initialised: false,
            kind,
            msrs: VcpuMsrs::default(),
            debug: [0, 0, 0, 0, debugreg::DR6_IDLE, debugreg::DR7_IDLE],
            fpu: fpu::State::new()?,
            xcr0: 0,
            work: pagetype::Work::new(),
            time_version: 0,
            runstate_area: 0,
            time_area: 0,
        })
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
            ldt_pages: ldt::Pages::new(state.pv().window),
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
        !st.kind.nmi_masked() && self.nmi_pending.load(Ordering::Acquire) != 0
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
        match &mut st.kind {
            Kind::Pv(pv) => pv.release(&self.ldt_pages, work),
        }
    }
}
