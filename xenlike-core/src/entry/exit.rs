//! The one way out of ring 0: pending work is done first, then NMIs and events are delivered.

use crate::arch::frame::TrapFrame;
use crate::arch::{exception, work};
use crate::domain::Ctx;
use crate::domain::time;
use crate::pv::bounce::{Bounce, Cause, bounce};

use super::current::with_current;
use super::{switch, timers, tracing};

/// Called by the exit stub while work is pending on this CPU. The stub tests for work again afterwards.
pub extern "C" fn exit_work(frame: &mut TrapFrame) {
    let due = work::take();
    if due & work::TIMER != 0 {
        timers::expire();
    }
    if due & !work::TIMER != 0 {
        other_work(frame, due);
    }
    with_current(frame, |ctx| {
        if ctx.vcpu.nmi_due(ctx.st) {
            nmi(ctx.reborrow());
        }
    });
}

/// Does all work but deadlines, which are the most frequent.
#[inline(never)] // keeps its stack frame off the timer path
fn other_work(frame: &mut TrapFrame, due: u32) {
    crate::console::later::tell();
    if due & work::CLOCK != 0 && timers::correct_clock() {
        with_current(frame, |ctx| time::publish(ctx.vcpu, ctx.st));
    }
    if due & work::CONSOLE != 0 {
        crate::console::poll();
    }
    crate::console::draw_some();
    if due & work::LIFE != 0 {
        // Before the scheduler, which may idle for long. Work that can't be done yet is raised again.
        crate::life::destroy::forget_empty();
        crate::life::endings::act();
    }
    if due & work::DUMP != 0 {
        with_current(frame, |ctx| ctx.log_registers());
    }
    #[cfg(feature = "audit")]
    crate::audit::stand(due);
    tracing::act(due);
    if due & work::SCHEDULE != 0 {
        switch::schedule(frame);
    }
}

/// Called by the exit stub when an upcall is due for the vCPU: enters its event callback. Events stay masked until the
/// callback returns by iret.
pub extern "C" fn enter_upcall(frame: &mut TrapFrame) {
    with_current(frame, |ctx| {
        let callback = Bounce {
            masks_events: true,
            ..Bounce::callback(ctx.st.pv().callbacks.event, Cause::Event)
        };
        bounce(ctx, callback);
    });
}

/// Enters the guest's NMI handler and masks NMIs until its iret. Without a handler the NMI is lost, as on Xen.
#[cold]
fn nmi(mut ctx: Ctx<'_>) {
    let ctx = &mut ctx;
    let handler = Bounce::exception(ctx.st, exception::NMI, None);
    let traps = ctx.st.pv().entries().0;
    let has_handler = traps
        .get(usize::from(exception::NMI))
        .is_some_and(|trap| trap.address != 0);
    if ctx.vcpu.take_nmi() && has_handler {
        ctx.st.pv_mut().nmi_masked = true;
        bounce(ctx, handler);
    }
}
