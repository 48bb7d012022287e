//! Chooses the vCPU that this CPU runs, and switches to it.
//!
//! There is one stack for each CPU: a switch saves the top frame and the other registers to the old vCPU, loads those of
//! the new one, and returns to the exit stub, which leaves with whatever is in the top frame.
#![expect(unsafe_code, reason = "a CPU's first step out of ring 0")]

use crate::kit::atomic::Ordering;
use alloc::sync::Arc;

use super::current::{self, Running};
use super::{context, harden, tracing};
use crate::arch::frame::TrapFrame;
use crate::arch::{percpu, time, work};
use crate::domain::gate::Schedule;
use crate::domain::notify::SCHED;
use crate::domain::runstate::Activity;
use crate::domain::time::{resume_ticks, set_slice};
use crate::domain::{Vcpu, vcpu::pause};
use crate::mm::space;
use crate::sched::Choice;
use crate::trace;

/// Lets the scheduler choose, and switches. While there is no vCPU to run, the CPU idles in here.
pub fn schedule(frame: &mut TrapFrame) {
    let cpu = percpu::this_cpu();
    loop {
        let now_ns = time::now_ns();
        settle_sleep(now_ns);
        let turn = SCHED.pick(cpu, now_ns);
        if let Some(idle) = turn.kick {
            work::raise(idle, work::SCHEDULE);
        }
        set_slice(turn.until_ns);
        match turn.choice {
            Choice::Stay => return,
            Choice::Switch(_, next) => {
                switch_away(frame, now_ns);
                if switch_to(next, frame, now_ns) {
                    return;
                }
            }
            Choice::Idle => {
                switch_away(frame, now_ns);
                trace::if_on(tracing::idles);
                super::idle::wait();
            }
        }
    }
}

/// Reports changes of this CPU's own vCPU to the scheduler. Nothing else is to be done: the CPU schedules right afterwards.
struct Here<'a>(&'a Vcpu, u64);

impl Schedule for Here<'_> {
    fn wake(&self) {
        SCHED.wake(self.0.unit, self.1);
    }
    fn sleep(&self) {
        SCHED.sleep(self.0.unit, self.1);
    }
}

/// Reports to the scheduler that the running vCPU sleeps, if it has blocked or is held.
fn settle_sleep(now_ns: u64) {
    if let Some(running) = current::running() {
        running.vcpu.gate.settle(&Here(&running.vcpu, now_ns));
    }
}

/// Saves the vCPU that runs here, if there is one.
fn switch_away(frame: &mut TrapFrame, now_ns: u64) {
    if current::with_current(frame, context::save).is_none() {
        // No vCPU's registers are here: `switch_to` has not let in the one that the scheduler chose.
        return unbind(now_ns);
    }
    space::load_master();
    current::set_vcpu_info(None);
    let Some(Running { vcpu, dom }) = current::clear_running() else {
        return;
    };
    let activity = match vcpu.gate.holds() {
        0 => Activity::Runnable,
        holds if holds & !pause::SLEEPS == 0 => Activity::Blocked,
        _ => Activity::Offline,
    };
    vcpu.runstate.lock().change(activity, now_ns);
    trace::if_on(|| tracing::leaves(&dom, &vcpu, activity));
    vcpu.running_on.store(0, Ordering::Release);
    unbind(now_ns);
    drop(dom);
}

/// Tells the scheduler that the unit that ran here last may run on another CPU now.
fn unbind(now_ns: u64) {
    if let Some(cpu) = SCHED.saved(percpu::this_cpu(), now_ns) {
        work::raise(cpu, work::SCHEDULE);
    }
}

/// Switches to `vcpu`. Returns false if it may not run any more; the scheduler has been told so then.
fn switch_to(vcpu: Arc<Vcpu>, frame: &mut TrapFrame, now_ns: u64) -> bool {
    let Some(dom) = vcpu.domain() else {
        vcpu.gate.hold(pause::DYING, &Here(&vcpu, now_ns));
        return false;
    };
    if !vcpu.gate.enter() {
        vcpu.gate.settle(&Here(&vcpu, now_ns));
        return false;
    }
    vcpu.running_on
        .store(percpu::this_cpu().0 + 1, Ordering::Release);
    vcpu.runstate.lock().change(Activity::Running, now_ns);
    trace::if_on(|| tracing::enters(&dom, &vcpu));
    harden::between_domains(dom.serial);
    resume_ticks(&vcpu, now_ns);
    current::set_vcpu_info(Some(&vcpu.info));
    // SAFETY: this CPU has entered the gate above, and only `switch_away` releases the state.
    unsafe { current::set_running(Running { vcpu, dom }) };
    current::with_current(frame, context::load);
    true
}

/// Enters the scheduler for the first time, at the end of a CPU's boot. It leaves ring 0 with a vCPU.
pub fn run() -> ! {
    work::raise_here(work::SCHEDULE);
    if let Err(error) = SCHED.bring_online(percpu::this_cpu()) {
        panic!(
            "no memory to schedule on {:?}: {error:?}",
            percpu::this_cpu()
        );
    }
    // SAFETY: the stub leaves with the top frame of the stack. Before it uses the frame, it calls the exit
    // work, since work is pending; and the scheduler returns only with a vCPU in the frame.
    unsafe { super::stubs::leave_to_guest() }
}
