//! Time as guests see it: the clock in vcpu_info, the wall clock in shared_info, runstate areas, and the deadlines of
//! vCPUs.

use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use core::mem::offset_of;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::vcpu::{self as abi, VcpuRunstateInfo, XEN_RUNSTATE_UPDATE};
use guest_pv_abi::xen::{
    SharedInfo, VIRQ_TIMER, VMASST_TYPE_RUNSTATE_UPDATE_FLAG, VcpuTimeInfo,
    XEN_PVCLOCK_TSC_STABLE_BIT,
};
use guest_pv_abi::{Width, narrow};
use zerocopy::{FromZeros, IntoBytes};

use super::vcpu::pause;
use super::{Domain, Life, Vcpu, VcpuState, notify};
use crate::arch::apic_timer::{self, Distance};
use crate::arch::{percpu, time, work};
use crate::kit::cell::PerCpu;
use crate::kit::indexed_heap::NoMemory;
use crate::kit::{CpuId, GUEST_LOG, Lock, MAX_CPUS, Rank, Vaddr};
use crate::mm::directmap::SharedPage;
use crate::mm::guest::{Guest, offset_in};
use crate::timer::{Key, Timer, Timers};

/// The deadlines of all vCPUs, in one queue per CPU.
pub static TIMERS: Timers = Timers::new();

/// The deadline of each CPU's periodic work of its own.
pub static UPKEEP: PerCpu<Timer> = PerCpu::new([const { Timer::new(Key::UPKEEP) }; MAX_CPUS]);

/// Sets the periodic work of this CPU to be done in `ns`. Without memory for the deadline it is not done again.
pub fn set_upkeep_in(ns: u64) {
    let timer = UPKEEP.of(percpu::this_cpu());
    if set_timer(timer, time::now_ns().saturating_add(ns)).is_err() {
        log::warn!("no memory for the upkeep of {:?}", percpu::this_cpu());
    }
}

/// The idle time of a CPU, in ns.
struct Idle {
    /// The sum, without the present idle time.
    sum_ns: AtomicU64,
    /// When the present idle time began; `u64::MAX` while a vCPU runs.
    since_ns: AtomicU64,
}

static IDLE: PerCpu<Idle> = PerCpu::new(
    [const {
        Idle {
            sum_ns: AtomicU64::new(0),
            since_ns: AtomicU64::new(u64::MAX),
        }
    }; MAX_CPUS],
);

/// Returns how long `cpu` has had nothing to run, in ns, including the present stay.
pub fn idle_ns(cpu: CpuId) -> u64 {
    let idle = IDLE.of(cpu);
    let since_ns = idle.since_ns.load(Ordering::Relaxed);
    let stay_ns = time::now_ns().saturating_sub(since_ns);
    idle.sum_ns.load(Ordering::Relaxed).saturating_add(stay_ns)
}

/// Notes that this CPU starts to idle.
pub fn idle_begins() {
    let idle = IDLE.of(percpu::this_cpu());
    idle.since_ns.store(time::now_ns(), Ordering::Relaxed);
}

/// Notes that this CPU stops to idle.
pub fn idle_ends() {
    let idle = IDLE.of(percpu::this_cpu());
    let since_ns = idle.since_ns.swap(u64::MAX, Ordering::Relaxed);
    let stay_ns = time::now_ns().saturating_sub(since_ns);
    idle.sum_ns.fetch_add(stay_ns, Ordering::Relaxed);
}

/// The end of each CPU's present turn in ns, when it schedules again; `u64::MAX` without a limit.
static SLICE_END: PerCpu<AtomicU64> = PerCpu::new([const { AtomicU64::new(u64::MAX) }; MAX_CPUS]);

/// Sets the end of this CPU's present turn; `None` means no limit.
pub fn set_slice(until_ns: Option<u64>) {
    SLICE_END
        .of(percpu::this_cpu())
        .store(until_ns.unwrap_or(u64::MAX), Ordering::Relaxed);
    if let Some(until_ns) = until_ns {
        come_by(until_ns);
    }
}

/// Brings the end of this CPU's present turn forward to `by_ns`, unless it is earlier already.
pub fn end_slice_by(by_ns: u64) {
    let end = SLICE_END.of(percpu::this_cpu());
    if by_ns < end.load(Ordering::Relaxed) {
        end.store(by_ns, Ordering::Relaxed);
        come_by(by_ns);
    }
}

/// Whether this CPU's present turn has ended by now; true only once.
pub fn take_slice_end(now_ns: u64) -> bool {
    let end = SLICE_END.of(percpu::this_cpu());
    let over = end.load(Ordering::Relaxed) <= now_ns;
    if over {
        end.store(u64::MAX, Ordering::Relaxed);
    }
    over
}

/// The time in ns for which each CPU's hardware timer is set; `u64::MAX` if it isn't.
static ARMED: PerCpu<AtomicU64> = PerCpu::new([const { AtomicU64::new(u64::MAX) }; MAX_CPUS]);

/// Returns this CPU's earliest deadline or end of turn, in ns; `u64::MAX` if there is none.
fn first_deadline_ns() -> u64 {
    let cpu = percpu::this_cpu();
    let slice = SLICE_END.of(cpu).load(Ordering::Relaxed);
    TIMERS.next_deadline_ns(cpu).unwrap_or(u64::MAX).min(slice)
}

/// Makes sure that this CPU's hardware timer interrupts by `deadline_ns`. The timer is only ever moved to an
/// earlier time. If the earlier deadline has been cancelled since, the interrupt finds nothing to do and
/// [`program`] sets the timer again: that costs less than to reprogram the timer for each deadline that moves.
fn come_by(deadline_ns: u64) {
    let armed = ARMED.of(percpu::this_cpu());
    if deadline_ns < armed.load(Ordering::Relaxed) {
        armed.store(deadline_ns, Ordering::Relaxed);
        if apic_timer::set_deadline_ns(Some(deadline_ns), time::stamp()) == Distance::Passed {
            work::raise_here(work::TIMER);
        }
    }
}

/// Sets this CPU's hardware timer, which has fired, to the first deadline. `now` is the time that the caller has read.
pub fn program(now: time::Stamp) {
    let first_ns = first_deadline_ns();
    ARMED
        .of(percpu::this_cpu())
        .store(first_ns, Ordering::Relaxed);
    apic_timer::set_deadline_ns((first_ns != u64::MAX).then_some(first_ns), now);
}

/// Sets `timer` on this CPU. A deadline that has passed is handled on the way out of ring 0.
pub fn set_timer(timer: &Timer, deadline_ns: u64) -> Result<(), NoMemory> {
    set_timer_if(timer, deadline_ns, |_| true).map(drop)
}

/// Like [`set_timer`], but only under a condition, see [`Timers::set_if`].
fn set_timer_if(
    timer: &Timer,
    deadline_ns: u64,
    wanted: impl FnOnce(&dyn Fn() -> bool) -> bool,
) -> Result<bool, NoMemory> {
    let is_set = TIMERS.set_if(timer, percpu::this_cpu(), deadline_ns, wanted)?;
    if is_set {
        come_by(deadline_ns);
    }
    Ok(is_set)
}

/// Handles the periodic timer of `vcpu`: sends one tick and sets the timer for the next. As on Xen, a vCPU that
/// is on no CPU and is down or paused (rather than blocked) gets no tick and its timer stops, until the vCPU
/// runs again ([`resume_ticks`]).
pub fn tick(dom: &Domain, vcpu: &Vcpu, now_ns: u64) {
    let period_ns = || vcpu.periodic_ns.load(Ordering::Acquire);
    let rests = || vcpu.cpu().is_none() && vcpu.gate.holds() & !pause::SLEEPS != 0;
    let ticks = |_: &dyn Fn() -> bool| period_ns() != 0 && !rests();
    let next_ns = now_ns.saturating_add(period_ns());
    match set_timer_if(&vcpu.timers.periodic, next_ns, ticks) {
        Ok(false) => return,
        Ok(true) => {}
        Err(NoMemory) => log::warn!(
            target: GUEST_LOG,
            "{:?}{:?}: periodic timer lost: no memory",
            dom.id(),
            vcpu.id
        ),
    }
    notify::virq_to(dom, vcpu.id, VIRQ_TIMER);
}

/// Called when the vCPU gets this CPU: if its periodic timer stopped while it was held, a tick is raised now.
pub fn resume_ticks(vcpu: &Vcpu, now_ns: u64) {
    let period_ns = || vcpu.periodic_ns.load(Ordering::Acquire);
    if period_ns() != 0 {
        let stopped = |is_set: &dyn Fn() -> bool| period_ns() != 0 && !is_set();
        // If there is no memory for the deadline, the vCPU's next turn tries again.
        let _ = set_timer_if(&vcpu.timers.periodic, now_ns, stopped);
    }
}

/// Stops a vCPU's periodic timer. Clears the period first, so that [`tick`] can't set the timer again after
/// it is cancelled.
pub fn stop_ticks(vcpu: &Vcpu) {
    vcpu.periodic_ns.store(0, Ordering::Release);
    TIMERS.cancel(&vcpu.timers.periodic);
}

/// Writes the present time and the TSC's rate for the vCPU that runs here.
pub fn publish(vcpu: &Vcpu, st: &mut VcpuState) {
    let scale = time::tsc_scale();
    let (tsc, now_ns) = time::stamp();
    let stable = if scale.stable {
        XEN_PVCLOCK_TSC_STABLE_BIT as u8
    } else {
        0
    };
    let info = VcpuTimeInfo {
        version: 0,
        pad0: 0,
        tsc_timestamp: tsc,
        system_time: now_ns,
        tsc_to_system_mul: scale.mul,
        tsc_shift: scale.shift,
        flags: stable,
        pad1: [0; 2],
    };
    let (page, at) = vcpu.info.time();
    write_time(&page, at, &info, &mut st.time_version);
    if st.time_area != 0 {
        publish_copy(st, &info);
    }
}

/// Writes a time info as xen.h requires: the version is odd during the update, and even again afterwards. The
/// version is in the first word, together with padding.
fn write_time(page: &SharedPage, at: usize, info: &VcpuTimeInfo, version: &mut u32) {
    let Some(word) = page.u32(at) else { return };
    *version = version.wrapping_add(1) | 1;
    word.store(*version, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    let (_version, rest) = info.as_bytes().split_at(size_of::<u32>());
    // A vcpu_info is inside its page.
    let _ = page.write(at.wrapping_add(size_of::<u32>()), rest);
    fence(Ordering::SeqCst);
    *version = version.wrapping_add(1);
    word.store(*version, Ordering::Release);
}

/// Writes the second copy, at an address that the guest registered. It is skipped if it can't be written.
fn publish_copy(st: &VcpuState, info: &VcpuTimeInfo) {
    let area = Vaddr(st.time_area);
    let mut copy = *info;
    copy.version = st.time_version | 1;
    let guest = Guest::loaded(st.kind.width());
    if guest.write(area, &copy).is_err() {
        return;
    }
    fence(Ordering::SeqCst);
    if guest.write(area, &st.time_version).is_err() {
        log::debug!(target: GUEST_LOG, "a time area vanished between two writes");
    }
}

/// Serialises the writers of wall clocks, so that [`end_wall_clock`] can wait for them.
static WALL_CLOCK: Lock<()> = Lock::new(Rank::WallClock, ());

/// Waits until no wall clock is being written for a domain that was alive before this call, so that its shared_info can be
/// freed.
pub fn end_wall_clock() {
    drop(WALL_CLOCK.lock());
}

/// Writes the wall clock at system time 0 to the domain's shared_info, if that still exists.
pub fn publish_wall_clock(dom: &Domain) {
    const WIDE: [usize; 2] = [
        offset_of!(SharedInfo, wc_version),
        offset_of!(SharedInfo, wc_sec_hi),
    ];
    const NARROW: [usize; 2] = [
        offset_of!(narrow::SharedInfo, wc_version),
        offset_of!(narrow::SharedInfo, arch.wc_sec_hi),
    ];
    let _one_writer = WALL_CLOCK.lock();
    if dom.life() != Life::Alive {
        return;
    }
    let (seconds, nanoseconds) = time::boot_wall_clock();
    let offset_s = dom.time_offset_s.load(Ordering::Relaxed);
    let seconds = seconds.wrapping_add(offset_s);
    let [at, above] = match dom.pages.width() {
        Width::Wide => WIDE,
        Width::Narrow => NARROW,
    };
    let words = [
        (at.wrapping_add(4), seconds as u32),
        (at.wrapping_add(8), nanoseconds),
        (above, (seconds >> 32) as u32),
    ];
    let word = |at: usize| -> Option<&AtomicU32> { dom.shared.u32(at) };
    let Some(version) = word(at) else { return };
    let odd = version.load(Ordering::Relaxed) | 1;
    version.store(odd, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    for (at, value) in words {
        if let Some(word) = word(at) {
            word.store(value, Ordering::Relaxed);
        }
    }
    fence(Ordering::SeqCst);
    version.store(odd.wrapping_add(1), Ordering::Release);
}

/// The present runstate of a vCPU, for VCPUOP_get_runstate_info.
pub fn runstate_of(vcpu: &Vcpu) -> Result<VcpuRunstateInfo, Errno> {
    let settled = vcpu.runstate.lock().settled(time::now_ns());
    let mut info = VcpuRunstateInfo::new_zeroed();
    info.state = i32::try_from(settled.activity as u32).map_err(|_| errno::EINVAL)?;
    info.state_entry_time = settled.since_ns;
    info.time = settled.time_ns;
    Ok(info)
}

/// Writes the runstate of the vCPU that runs here to the area that it registered, if any.
pub fn publish_runstate(dom: &Domain, vcpu: &Vcpu, st: &VcpuState) {
    if st.runstate_area == 0 {
        return;
    }
    let Ok(mut info) = runstate_of(vcpu) else {
        return;
    };
    let area = Vaddr(st.runstate_area);
    let guest = Guest::loaded(st.kind.width());
    let in_area = offset_in!(guest.width(), abi::VcpuRunstateInfo, state_entry_time);
    let entry_time = Vaddr(st.runstate_area.wrapping_add(in_area));
    let settled = info.state_entry_time;
    if dom.assists(VMASST_TYPE_RUNSTATE_UPDATE_FLAG) {
        info.state_entry_time |= XEN_RUNSTATE_UPDATE;
        if guest.write(entry_time, &info.state_entry_time).is_err() {
            return;
        }
        fence(Ordering::SeqCst);
    }
    if guest.write(area, &info).is_ok() && settled != info.state_entry_time {
        fence(Ordering::SeqCst);
        if guest.write(entry_time, &settled).is_err() {
            log::debug!(target: GUEST_LOG, "a runstate area vanished between two writes");
        }
    }
}
