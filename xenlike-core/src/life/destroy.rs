//! Destroys a domain, in steps that can be interrupted. An interrupted step is called again and continues from
//! what it finds. Two CPUs may be in the same step. What a step has ended can't begin again in a dying domain,
//! so a completed step is not repeated.
//!
//! 1. The domain is marked as dying and its vCPUs are held. Nothing new can be bound, mapped or given to it.
//! 2. Every vCPU is off its CPU.
//! 3. Event channels are closed, and the uses of other domains' grants end.
//! 4. The vCPUs' references (page tables, descriptors) are dropped, and then those of every frame.
//! 5. The vCPUs leave the scheduler, and the domain is *dead*. It stays listed as dying while other domains
//!    still map frames of it. When the last of these is freed ([`emptied`]), it is removed from the list.

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
use crate::kit::atomic::Ordering;
use crate::pagetype::emptied::{self, Emptied};
use crate::pagetype::{self, machine};
use crate::trace;

/// The progress of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// The step, or the destruction, is complete.
    Done,
    /// There is other work, or a vCPU is still on a CPU: call again.
    Again,
}

/// Destroys `dom`, which must not be the caller's own domain. Has no effect on a dead domain.
pub fn destroy(dom: &Arc<Domain>) -> Progress {
    if dom.life() == Life::Dead {
        return Progress::Done;
    }
    if dom.advance_life(Life::Alive, Life::Dying) {
        dom.pages.set_dying();
        // Other holders of a shared interrupt line need not wait for this domain's EOI.
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
        // A step may have gone through all vCPUs, which takes long.
        if work::preempts() {
            return Progress::Again;
        }
    }
    bury(dom);
    Progress::Done
}

fn vcpus_off(dom: &Arc<Domain>) -> Progress {
    // A CPU that creates vCPUs sets this flag and then reads the stage of the domain's life. Here the stage was
    // set first and then the flag is read. All of it is sequentially consistent, so either the flag is seen
    // here, or that CPU sees that the domain is dying.
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
        vcpu.let_go(&dom.pages, &mut state, &mut work);
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

/// The last step, which only one CPU executes.
fn bury(dom: &Arc<Domain>) {
    if !dom.advance_life(Life::Dying, Life::Dead) {
        return;
    }
    let (events, id) = ([TRC_SCHED_DOM_REM, TRC_DOM0_DOM_REM], dom.id().0.into());
    trace::if_on(|| events.iter().for_each(|event| trace::record(*event, &[id])));
    time::end_wall_clock();
    machine().unshare(dom.shared.mfn());
    forget_if_empty(dom);
    notify::domain_exception();
}

/// Removes a dead domain from the list, which frees its id, if nothing is left of it.
fn forget_if_empty(dom: &Arc<Domain>) {
    // Two CPUs may get here for the same domain, and its id may be reused between them. So both removals
    // compare the domain itself.
    if dom.life() == Life::Dead && dom.pages.is_empty() {
        pagetype::forget(dom.id(), &dom.pages);
        registry::remove(dom);
    }
}

/// Removes the dead domains of which nothing is left, after their last frames have been given back.
pub fn forget_empty() {
    emptied::take(|emptied| match emptied {
        Emptied::One(id) => {
            if let Some(dom) = registry::lookup(id) {
                forget_if_empty(&dom);
            }
        }
        Emptied::Any => registry::all().for_each(|dom| forget_if_empty(&dom)),
    });
}
