//! The one way out of ring 0: what is owed is done first, softirq by softirq, then events.

use crate::arch::frame::TrapFrame;
use crate::arch::work;
use crate::domain::trap::Bounce;

use super::current::with_current;
use super::{dump, switch, syscall, timers};

/// Called by the exit stub while work is pending on this CPU or an upcall is due for its vCPU.
/// The stub looks again afterwards.
pub extern "C" fn exit_work(frame: &mut TrapFrame) {
    let due = work::take();
    if due & work::TIMER != 0 {
        timers::expire();
    }
    if due & work::CONSOLE != 0 {
        crate::console::poll();
    }
    if due & work::LIFE != 0 {
        // Before the scheduler, which may idle for long: what can't be done yet is raised again.
        crate::life::endings::act();
    }
    if due & work::DUMP != 0 {
        with_current(frame, |ctx| dump::guest(ctx));
    }
    if due & work::SCHEDULE != 0 {
        switch::schedule(frame);
    }
    with_current(frame, |ctx| {
        if ctx.st.callbacks.nmi.entry != 0 && ctx.vcpu.take_nmi() {
            syscall::bounce(
                ctx,
                Bounce {
                    masks_events: false,
                    ..ctx.st.callbacks.nmi.into()
                },
            );
        } else if ctx.vcpu.info.wants_upcall() {
            upcall(ctx);
        }
    });
}

/// Enters the guest's event callback: events stay masked until its iret.
fn upcall(ctx: &mut crate::hypercall::Ctx<'_>) {
    let entry = ctx.st.callbacks.event.entry;
    syscall::bounce(
        ctx,
        Bounce {
            masks_events: true,
            ..Bounce::to(entry)
        },
    );
}
