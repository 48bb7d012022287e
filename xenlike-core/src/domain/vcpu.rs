//! Virtual CPUs: the part that any CPU may read, and the part that belongs to the CPU that runs one.

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
use crate::pagetype::{self, DomainPages};
use crate::sched::UnitId;
use crate::timer::{Key, Timer, What};

/// A virtual CPU. Any CPU may read what is here; the [`VcpuState`] inside [`Gate`] belongs to one CPU at a time.
pub struct Vcpu {
    /// Its number within the domain.
    pub id: VcpuId,
    /// Its domain. Weak, because the domain owns its vCPUs.
    pub dom: Weak<Domain>,
    /// Its id for the scheduler.
    pub unit: UnitId,
    /// Its vcpu_info, in shared_info or where the guest registered it.
    pub info: VcpuInfo,
    /// The reasons why it may not run (see [`pause`]), and its state.
    pub gate: Gate<VcpuState>,
    /// The CPU that has its registers loaded, plus one; 0 if none has.
    pub running_on: AtomicU32,
    /// Its timers, which the queues of [`super::time::TIMERS`] refer to.
    pub timers: VcpuTimers,
    /// How long it has run, waited and slept.
    pub runstate: Lock<Runstate>,
    /// The deadline of its one-shot timer in ns of system time; 0 if it isn't set.
    pub singleshot_ns: AtomicU64,
    /// The period of its periodic timer in ns; 0 if that is stopped.
    pub periodic_ns: AtomicU64,
    /// Non-zero if an NMI is pending.
    pub nmi_pending: AtomicU8,
    /// Its affinity as it was before SCHEDOP_pin_override, while that keeps it on one CPU.
    pub pinned: Lock<Option<CpuSet>>,
}

/// The reasons why a vCPU doesn't run: bits of [`Gate::holds`].
pub mod pause {
    /// It isn't initialised, or it is down; VCPUOP_up clears this.
    pub const DOWN: u32 = 1;
    /// It has blocked until an event (SCHEDOP_block).
    pub const BLOCKED: u32 = 2;
    /// It polls until one of its ports has an event, or a timeout (SCHEDOP_poll).
    pub const POLLING: u32 = 4;
    /// Its domain has shut down.
    pub const SHUT_DOWN: u32 = 8;
    /// Its domain is being destroyed.
    pub const DYING: u32 = 16;
    /// Adds one pause, by the toolstack or by a call that needs the state.
    pub const HELD_ONCE: u32 = 1 << 8;
    /// The bits of that count: nonzero while at least one such pause is in effect.
    pub const HELD: u32 = !0 << 8;
    /// The reasons for which the vCPU sleeps by its own request.
    pub const SLEEPS: u32 = BLOCKED | POLLING;
}

/// The timers of a vCPU.
pub struct VcpuTimers {
    /// The one-shot timer (set_timer_op, VCPUOP_set_singleshot_timer).
    pub singleshot: Timer,
    /// The periodic timer (VCPUOP_set_periodic_timer).
    pub periodic: Timer,
    /// The timeout of SCHEDOP_poll.
    pub poll: Timer,
}

impl VcpuTimers {
    /// Makes the timers of vCPU `vcpu` of domain `dom`; none is set.
    pub fn new(dom: DomId, vcpu: VcpuId) -> Self {
        let timer = |what| Timer::new(Key { dom, vcpu, what });
        Self {
            singleshot: timer(What::Singleshot),
            periodic: timer(What::Periodic),
            poll: timer(What::Poll),
        }
    }
}

/// The most ports that one SCHEDOP_poll may name, as on Xen.
pub const MAX_POLL_PORTS: usize = 128;

/// The part of a vCPU that only the CPU that runs it touches, or the CPU that holds it descheduled.
pub struct VcpuState {
    /// The general registers while it doesn't run; while it runs, they are in the CPU's top frame.
    pub regs: TrapFrame,
    /// Whether VCPUOP_initialise or a control call has set its registers.
    pub initialised: bool,
    /// Whether a CPU has loaded its registers beyond the trap frame, so that they have to be saved.
    pub is_loaded: bool,
    /// The state that only its kind of vCPU has.
    pub kind: Kind,
    /// The MSRs that differ between vCPUs.
    pub msrs: VcpuMsrs,
    /// DR0 to DR3, DR6 and DR7, in this order.
    pub debug: [u64; 6],
    /// The x87, SSE and AVX registers, in an XSAVE area, while the vCPU doesn't run.
    pub fpu: fpu::State,
    /// XCR0 as the guest set it; until then 0, and x87 and SSE are enabled.
    pub xcr0: u64,
    /// A page table that its last call left partly invalidated; the next call continues.
    pub work: pagetype::Work,
    /// The version of its pvclock time info, which is odd during an update.
    pub time_version: u32,
    /// The guest address of its runstate area; 0 if it has none.
    pub runstate_area: u64,
    /// The guest address of its secondary time info; 0 if it has none.
    pub time_area: u64,
}

impl VcpuState {
    /// Makes the state of a vCPU that has no registers yet; nothing if there is no memory.
    #[inline(always)] // built in place, not copied
    pub fn new(kind: Kind) -> Option<Self> {
        // What may fail comes first, so that the rest is built in place.
        let fpu = fpu::State::new()?;
        Some(Self {
            regs: TrapFrame::ZERO,
            initialised: false,
            is_loaded: false,
            kind,
            msrs: VcpuMsrs::default(),
            debug: [0, 0, 0, 0, debugreg::DR6_IDLE, debugreg::DR7_IDLE],
            fpu,
            xcr0: 0,
            work: pagetype::Work::new(),
            time_version: 0,
            runstate_area: 0,
            time_area: 0,
        })
    }
}

impl Vcpu {
    /// Makes vCPU `id` of `dom`. It is down, and paused as often as the toolstack has paused its domain.
    #[inline(always)] // built in place, not copied
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
            gate: Gate::new(pause::DOWN | held, state),
        }
    }

    /// Whether it may run.
    #[cfg(test)]
    pub fn runnable(&self) -> bool {
        self.gate.holds() == 0
    }

    /// Whether the vCPU has been brought up (VCPUOP_up) and not taken down since.
    pub fn is_up(&self) -> bool {
        self.gate.holds() & pause::DOWN == 0
    }

    /// Whether other vCPUs may read its vcpu_info, which goes when its domain is destroyed. As with
    /// [`Domain::shared_info`], the page stays until this CPU flushes its TLB.
    pub fn has_info(&self) -> bool {
        self.gate.holds() & pause::DYING == 0
    }

    /// Its domain, if that still exists.
    pub fn domain(&self) -> Option<Arc<Domain>> {
        self.dom.upgrade()
    }

    /// Whether an NMI is pending and not masked.
    pub fn nmi_due(&self, st: &VcpuState) -> bool {
        !st.kind.nmi_masked() && self.nmi_pending.load(Ordering::Acquire) != 0
    }

    /// Takes the pending NMI; returns false if there was none.
    pub fn take_nmi(&self) -> bool {
        self.nmi_pending.swap(0, Ordering::AcqRel) != 0
    }

    /// The CPU that has its registers loaded.
    pub fn cpu(&self) -> Option<CpuId> {
        self.running_on
            .load(Ordering::Acquire)
            .checked_sub(1)
            .map(CpuId)
    }

    /// Its state, if it is on no CPU. No CPU can run it until the visit ends.
    pub fn descheduled(&self) -> Option<Visit<'_, VcpuState>> {
        self.gate.visit()
    }

    /// Drops the references that its state holds.
    pub fn let_go(&self, pages: &DomainPages, st: &mut VcpuState, work: &mut pagetype::Work) {
        match &mut st.kind {
            Kind::Pv(pv) => pv.release(pages, self.id, work),
        }
    }
}
