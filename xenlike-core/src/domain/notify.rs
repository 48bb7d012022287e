//! Wakes, kicks and holds vCPUs, and delivers notices of events and virtual IRQs to them.

use crate::kit::atomic::{AtomicU16, Ordering};
use alloc::sync::Arc;

use guest_pv_abi::trace::TRC_SCHED_WAKE;
use guest_pv_abi::xen::{VIRQ_CONSOLE, VIRQ_DOM_EXC};

use super::gate::Schedule;
use super::runstate::{self, Activity};
use super::time::end_slice_by;
use super::vcpu::pause;
use super::{Domain, Life, Vcpu, VcpuState, registry};
use crate::arch::{percpu, time, work};
use crate::event::{NR_VIRQS, Notice};
use crate::kit::{CpuId, DomId, Lock, Port, Rank, VcpuId};
use crate::sched::{Ask, Scheduler};
use crate::trace;

/// The scheduler of all vCPUs.
pub static SCHED: Scheduler<Arc<Vcpu>> = Scheduler::new();

/// Reports to the scheduler, and has the CPU schedule that is affected.
impl Schedule for Vcpu {
    fn wake(&self) {
        trace::if_on(|| trace_wake(self));
        match SCHED.wake(self.unit, time::now_ns()) {
            Some(Ask::By(cpu, by_ns) | Ask::Later(cpu, by_ns)) if cpu == percpu::this_cpu() => {
                end_slice_by(by_ns);
            }
            ask => schedule(ask.and_then(Ask::kick)),
        }
    }

    fn sleep(&self) {
        schedule(SCHED.sleep(self.unit, time::now_ns()));
    }
}

#[cold]
#[inline(never)]
fn trace_wake(vcpu: &Vcpu) {
    let Some(dom) = vcpu.domain() else {
        return;
    };
    trace::record(TRC_SCHED_WAKE, &[dom.id().0.into(), vcpu.id.0]);
    let activity = vcpu.runstate.lock().activity;
    if matches!(activity, Activity::Blocked | Activity::Offline) {
        runstate::trace(
            trace::word_of(dom.id(), vcpu.id),
            activity,
            Activity::Runnable,
        );
    }
}

/// Makes a CPU schedule.
fn schedule(cpu: Option<CpuId>) {
    if let Some(cpu) = cpu {
        work::raise(cpu, work::SCHEDULE);
    }
}

/// Handles that an upcall became due for `vcpu`: ends its sleep, or makes its CPU go through the exit, which delivers it.
pub fn upcall(dom: &Domain, vcpu: &Vcpu) {
    // A vCPU that goes to sleep sets its hold first and then checks for events, and the sender has set the
    // event's bit before this load. All are sequentially consistent, so either the hold is seen here or the
    // vCPU sees the event.
    let why = vcpu.gate.holds() & pause::SLEEPS;
    if why == 0 {
        return kick(vcpu);
    }
    if why & pause::POLLING != 0 {
        dom.events.end_poll(vcpu.id);
    }
    if vcpu.gate.remove(pause::SLEEPS) != 0 {
        vcpu.gate.wake(vcpu);
    } else {
        kick(vcpu);
    }
}

/// Sends an NMI to `vcpu`.
pub fn nmi(dom: &Domain, vcpu: &Vcpu) {
    // Stored before the holds are read; see `upcall`.
    vcpu.nmi_pending.store(1, Ordering::SeqCst);
    upcall(dom, vcpu);
    look_here(vcpu);
}

/// Makes this CPU check for pending NMIs and events of `vcpu`, if that runs here.
fn look_here(vcpu: &Vcpu) {
    if vcpu.cpu() == Some(percpu::this_cpu()) {
        work::raise_here(work::LOOK);
    }
}

/// Unmasks the NMIs of `vcpu`, which runs here and leaves its NMI handler.
#[cold]
#[inline(never)] // off the path of other irets
pub fn unmask_nmi(vcpu: &Vcpu, st: &mut VcpuState) {
    st.kind.unmask_nmi();
    look_here(vcpu);
}

/// Makes the CPU that runs `vcpu`, if it is another one, check for work that is due for it.
pub fn kick(vcpu: &Vcpu) {
    if let Some(cpu) = vcpu.cpu()
        && cpu != percpu::this_cpu()
    {
        work::raise(cpu, work::LOOK);
    }
}

/// Acts on a notice of an event table: wakes the vCPU that it names.
#[inline(never)] // keeps its stack frame off the path of events that need no notice
pub fn act(notice: Notice) {
    if let Some(dom) = registry::lookup(notice.dom) {
        act_in(&dom, notice);
    }
}

/// Acts on a notice of `dom`'s own table.
#[inline] // so that the notice stays in registers
pub fn act_in(dom: &Domain, notice: Notice) {
    if let Some(vcpu) = notice.upcall.and_then(|id| dom.vcpu(id)) {
        upcall(dom, vcpu);
    }
    if let Some(port) = notice.polled {
        end_polls(dom, port);
    }
}

/// Ends the SCHEDOP_poll of each vCPU that polls `port`.
#[inline(never)] // keeps its stack frame off the path of events without polls
fn end_polls(dom: &Domain, port: Port) {
    for vcpu in dom.events.pollers_of(port).filter_map(|id| dom.vcpu(id)) {
        end_poll(dom, vcpu);
    }
}

/// Ends a poll, whose timeout has passed or one of whose ports has an event.
pub fn end_poll(dom: &Domain, vcpu: &Vcpu) {
    dom.events.end_poll(vcpu.id);
    release(vcpu, pause::POLLING);
}

/// Removes the holds `why` of `vcpu`, and wakes it if that was the last one.
pub fn release(vcpu: &Vcpu, why: u32) {
    vcpu.gate.release(why, vcpu);
}

/// Sets the hold `why` of `vcpu`, which may still be on its CPU when this returns.
pub fn hold(vcpu: &Vcpu, why: u32) {
    vcpu.gate.hold(why, vcpu);
}

/// Notifies the control domain that the state of a domain has changed (VIRQ_DOM_EXC).
pub fn domain_exception() {
    global_virq(VIRQ_DOM_EXC);
}

/// The domain that handles each global VIRQ.
static HANDLERS: [AtomicU16; NR_VIRQS] = [const { AtomicU16::new(DomId::DOM0.0) }; NR_VIRQS];

/// Serialises changes of [`HANDLERS`]: without it, a domain could register between the check of its life and
/// the store, after [`give_virqs_back`].
static HANDING_OVER: Lock<()> = Lock::new(Rank::VirqHandlers, ());

/// Makes `dom` the handler of the global VIRQ `virq` (XEN_DOMCTL_set_virq_handler), unless it is being destroyed: then
/// [`give_virqs_back`] may have been called already.
pub fn set_virq_handler(virq: u32, dom: &Domain) {
    let _one = HANDING_OVER.lock();
    if let Some(handler) = HANDLERS.get(virq as usize)
        && dom.life() == Life::Alive
    {
        handler.store(dom.id().0, Ordering::Relaxed);
    }
}

/// Gives the global VIRQs of `dom`, which is being destroyed, back to domain 0, as another domain may get its id.
pub fn give_virqs_back(dom: DomId) {
    let _one = HANDING_OVER.lock();
    for handler in &HANDLERS {
        let (taken, free) = (dom.0, DomId::DOM0.0);
        let _ = handler.compare_exchange(taken, free, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Returns the domain that is registered for the global VIRQ `virq`, whether it exists or not.
#[cfg(test)]
pub fn virq_taker(virq: u32) -> DomId {
    DomId(HANDLERS[virq as usize].load(Ordering::Relaxed))
}

/// Notifies the control domain of input on the machine's console (VIRQ_CONSOLE).
pub fn console_input() {
    global_virq(VIRQ_CONSOLE);
}

/// Raises a global VIRQ in the domain that handles it. If that doesn't exist, it is domain 0, or the boot domain before
/// there is a domain 0.
pub fn global_virq(virq: u32) {
    let handler = HANDLERS
        .get(virq as usize)
        .map_or(0, |handler| handler.load(Ordering::Relaxed));
    let takers = [DomId(handler), DomId::DOM0, DomId::BOOT];
    if let Some(dom) = takers.into_iter().find_map(registry::lookup) {
        virq_to(&dom, VcpuId(0), virq);
    }
}

/// Raises `virq` on vCPU `vcpu` of `dom`, if the VIRQ is bound there.
pub fn virq_to(dom: &Domain, vcpu: VcpuId, virq: u32) {
    act_in(dom, dom.events.send_virq(vcpu, virq));
}
