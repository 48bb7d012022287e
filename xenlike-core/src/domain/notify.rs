//! Waking, kicking and holding vCPUs.

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

/// All vCPUs' scheduler.
pub static SCHED: Scheduler<Arc<Vcpu>> = Scheduler::new();

/// Tells the scheduler, and the CPU that has to act on it.
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

/// Makes a CPU ask the scheduler.
fn schedule(cpu: Option<CpuId>) {
    if let Some(cpu) = cpu {
        work::raise(cpu, work::SCHEDULE);
    }
}

/// An upcall became due for `vcpu`: end its sleep, or make it come through the way out.
pub fn upcall(dom: &Domain, vcpu: &Vcpu) {
    // Who goes to sleep says so before it looks at its events, which have been set by now.
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

/// Sends `vcpu` an NMI.
pub fn nmi(dom: &Domain, vcpu: &Vcpu) {
    // Seen by others before it is looked whether the vCPU sleeps: see `upcall`.
    vcpu.nmi_pending.store(1, Ordering::SeqCst);
    upcall(dom, vcpu);
    look_here(vcpu);
}

/// Makes this CPU look at what is due for `vcpu`, if it runs here.
fn look_here(vcpu: &Vcpu) {
    if vcpu.cpu() == Some(percpu::this_cpu()) {
        work::raise_here(work::LOOK);
    }
}

/// Lets NMIs reach `vcpu` again, which runs here: it leaves its NMI handler.
#[cold]
#[inline(never)] // not for every iret to carry
pub fn unmask_nmi(vcpu: &Vcpu, st: &mut VcpuState) {
    st.kind.unmask_nmi();
    look_here(vcpu);
}

/// Makes the CPU that runs `vcpu` look at what is due for it.
pub fn kick(vcpu: &Vcpu) {
    if let Some(cpu) = vcpu.cpu()
        && cpu != percpu::this_cpu()
    {
        work::raise(cpu, work::LOOK);
    }
}

/// Acts on an event table's notice: wakes whom the event is for.
#[inline(never)] // its frame is not for every event to carry
pub fn act(notice: Notice) {
    if let Some(dom) = registry::lookup(notice.dom) {
        act_in(&dom, notice);
    }
}

/// The same for a notice of `dom`'s own table.
#[inline] // a notice need not be put in memory
pub fn act_in(dom: &Domain, notice: Notice) {
    if let Some(vcpu) = notice.upcall.and_then(|id| dom.vcpu(id)) {
        upcall(dom, vcpu);
    }
    if let Some(port) = notice.polled {
        end_polls(dom, port);
    }
}

/// Ends the polls for `port`.
#[inline(never)] // its frame is not for every event to carry
fn end_polls(dom: &Domain, port: Port) {
    for vcpu in dom.events.pollers_of(port).filter_map(|id| dom.vcpu(id)) {
        end_poll(dom, vcpu);
    }
}

/// Ends a poll: its timeout passed or one of its ports got an event.
pub fn end_poll(dom: &Domain, vcpu: &Vcpu) {
    dom.events.end_poll(vcpu.id);
    release(vcpu, pause::POLLING);
}

/// Takes `why` off the reasons for which `vcpu` doesn't run.
pub fn release(vcpu: &Vcpu, why: u32) {
    vcpu.gate.release(why, vcpu);
}

/// Keeps `vcpu` from running for `why`; it may still be on its CPU when this returns.
pub fn hold(vcpu: &Vcpu, why: u32) {
    vcpu.gate.hold(why, vcpu);
}

/// Tells the control domain that some domain's state changed (VIRQ_DOM_EXC).
pub fn domain_exception() {
    global_virq(VIRQ_DOM_EXC);
}

/// Who takes each global VIRQ, if not domain 0.
static HANDLERS: [AtomicU16; NR_VIRQS] = [const { AtomicU16::new(DomId::DOM0.0) }; NR_VIRQS];

/// One change of them at a time.
static HANDING_OVER: Lock<()> = Lock::new(Rank::VirqHandlers, ());

/// Makes `dom` take the global VIRQ `virq` over (XEN_DOMCTL_set_virq_handler); not if it is ending,
/// since [`give_virqs_back`] may have been there already.
pub fn set_virq_handler(virq: u32, dom: &Domain) {
    let _one = HANDING_OVER.lock();
    if let Some(handler) = HANDLERS.get(virq as usize)
        && dom.life() == Life::Alive
    {
        handler.store(dom.id().0, Ordering::Relaxed);
    }
}

/// What `dom`, which is ending, took over goes back to domain 0: its id may be anybody's next.
pub fn give_virqs_back(dom: DomId) {
    let _one = HANDING_OVER.lock();
    for handler in &HANDLERS {
        let (taken, free) = (dom.0, DomId::DOM0.0);
        let _ = handler.compare_exchange(taken, free, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Who takes the global VIRQ `virq`, if listed.
#[cfg(test)]
pub fn virq_taker(virq: u32) -> DomId {
    DomId(HANDLERS[virq as usize].load(Ordering::Relaxed))
}

/// Tells the control domain that something was typed on the machine's console (VIRQ_CONSOLE).
pub fn console_input() {
    global_virq(VIRQ_CONSOLE);
}

/// Raises a global VIRQ in the domain that takes it: the one that asked for it, else domain 0, or
/// the boot domain before there is one.
pub fn global_virq(virq: u32) {
    let handler = HANDLERS
        .get(virq as usize)
        .map_or(0, |handler| handler.load(Ordering::Relaxed));
    let takers = [DomId(handler), DomId::DOM0, DomId::BOOT];
    if let Some(dom) = takers.into_iter().find_map(registry::lookup) {
        virq_to(&dom, VcpuId(0), virq);
    }
}

/// Raises `virq` on vCPU `vcpu` of `dom`, if it is bound there.
pub fn virq_to(dom: &Domain, vcpu: VcpuId, virq: u32) {
    act_in(dom, dom.events.send_virq(vcpu, virq));
}
