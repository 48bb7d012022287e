//! Ending a domain, in steps that stop when something else is urgent. A step that stopped is called again and finds
//! what it did already; two CPUs may be in the same one. What a step ended can't begin again in a dying domain, so a
//! step that is done isn't repeated.
//!
//! 1. It is marked dying and its vCPUs are held; nothing new can be bound, mapped or given to it.
//! 2. Every vCPU is off its CPU.
//! 3. Event channels are closed, grants of others are let go.
//! 4. The vCPUs' references (page tables, descriptors) are given back, then every frame.
//! 5. vCPUs leave the scheduler; the domain is *dead*, and listed as dying while others still map
//!    frames of its; with the last of them ([`emptied`]) it is forgotten.

use alloc::sync::Arc;

use guest_pv_abi::trace::{TRC_DOM0_DOM_REM, TRC_SCHED_DOM_REM};

use super::pausing;
use crate::arch::work;
use crate::domain::grant_machine::Mapper;
use crate::domain::notify::SCHED;
use crate::domain::vcpu::pause;
use crate::domain::{Domain, Life, Vcpu, notify, pirq, registry, time, watchdog};
use crate::event;
use crate::grant;
use crate::irq;
use crate::kit::DomId;
use crate::kit::atomic::Ordering;
use crate::pagetype::{self, machine};
use crate::trace;

/// How far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// All done.
    Done,
    /// Something else is urgent, or a vCPU is still on a CPU: call again.
    Again,
}

/// Ends `dom`, which must not be the caller's own. Ending a dead domain again changes nothing.
pub fn destroy(dom: &Arc<Domain>) -> Progress {
    if dom.life() == Life::Dead {
        return Progress::Done;
    }
    if dom.advance_life(Life::Alive, Life::Dying) {
        dom.pages.set_dying();
        // Others that share a line with it need not wait till it would have ended its interrupts.
        if let Some(mut book) = irq::machine::book() {
            book.forget(dom.id());
        }
    }
    let steps: [fn(&Arc<Domain>) -> Progress; 5] = [
        vcpus_off,
        end_services,
        give_back_references,
        give_back_frames,
        retire_vcpus,
    ];
    let done = dom.teardown_steps.load(Ordering::Acquire);
    for (n, step) in (1..).zip(steps).skip(done) {
        if step(dom) == Progress::Again {
            return Progress::Again;
        }
        dom.teardown_steps.fetch_max(n, Ordering::AcqRel);
        // A step may have gone through all vCPUs.
        if work::preempts() {
            return Progress::Again;
        }
    }
    bury(dom);
    Progress::Done
}

fn vcpus_off(dom: &Arc<Domain>) -> Progress {
    // Whoever makes them saw the domain alive, or will see it dying and make none.
    if dom.are_vcpus_in_making.load(Ordering::SeqCst) {
        return Progress::Again;
    }
    for vcpu in dom.vcpus() {
        notify::hold(vcpu, pause::DYING);
    }
    let off = |vcpu: &Arc<Vcpu>| pausing::is_off(vcpu) && SCHED.running_on(vcpu.unit).is_none();
    if dom.vcpus().iter().all(off) {
        Progress::Done
    } else {
        Progress::Again
    }
}

fn end_services(dom: &Arc<Domain>) -> Progress {
    for vcpu in dom.vcpus() {
        time::TIMERS.cancel(&vcpu.timers.singleshot);
        time::stop_ticks(vcpu);
        time::TIMERS.cancel(&vcpu.timers.poll);
    }
    watchdog::stop_all(dom);
    notify::give_virqs_back(dom.id());
    dom.eoi.lock().page = None;
    let urgent: &mut dyn FnMut() -> bool = &mut work::preempts;
    if dom
        .events
        .destroy(urgent, &mut |irq| pirq::unbound(dom, irq))
        == event::Sweep::Again
    {
        return Progress::Again;
    }
    if let Some(mut book) = irq::machine::book() {
        book.forget(dom.id());
    }
    dom.grants.retire();
    let mut teardown = dom.teardown.lock();
    let mut mapper = Mapper {
        owner: dom.id(),
        past: dom.pages.past(),
        root: None,
        work: &mut teardown,
    };
    match dom.grants.release_handles(urgent, &mut mapper) {
        grant::Sweep::Done => Progress::Done,
        grant::Sweep::Again => Progress::Again,
    }
}

fn give_back_references(dom: &Arc<Domain>) -> Progress {
    let mut work = dom.teardown.lock();
    for vcpu in dom.vcpus() {
        let Some(mut state) = vcpu.descheduled() else {
            return Progress::Again;
        };
        vcpu.let_go(&mut state, &mut work);
        if machine().finish(&mut work) == pagetype::Progress::Again {
            return Progress::Again;
        }
    }
    Progress::Done
}

fn give_back_frames(dom: &Arc<Domain>) -> Progress {
    match machine().relinquish(&dom.pages, &mut dom.teardown.lock()) {
        pagetype::Progress::Done => Progress::Done,
        pagetype::Progress::Again => Progress::Again,
    }
}

fn retire_vcpus(dom: &Arc<Domain>) -> Progress {
    let now_ns = crate::arch::time::now_ns();
    for vcpu in dom.vcpus() {
        if SCHED.remove(vcpu.unit, now_ns).is_err() {
            return Progress::Again;
        }
    }
    Progress::Done
}

/// The last step, made once.
fn bury(dom: &Arc<Domain>) {
    if !dom.advance_life(Life::Dying, Life::Dead) {
        return;
    }
    let (events, id) = ([TRC_SCHED_DOM_REM, TRC_DOM0_DOM_REM], dom.id().0.into());
    trace::if_on(|| events.iter().for_each(|event| trace::record(*event, &[id])));
    time::end_wall_clock();
    machine().unshare(dom.shared.mfn());
    emptied(dom.id());
    notify::domain_exception();
}

/// The last frame of a dying domain may have gone: if so, nothing is left of it, and its id is free.
pub fn emptied(id: DomId) {
    let gone = registry::lookup(id).filter(|dom| dom.life() == Life::Dead && dom.pages.is_empty());
    // Two CPUs may come here for the same domain, and its id be taken again between them.
    if let Some(dom) = gone {
        pagetype::forget(id, &dom.pages);
        registry::remove(&dom);
    }
}
