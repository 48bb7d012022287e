//! Acts on deadlines that have passed.

use crate::kit::atomic::Ordering;
use alloc::sync::Arc;

use guest_pv_abi::xen::VIRQ_TIMER;

use super::current::running;
use crate::arch::{percpu, platform_clock, time, work};
use crate::domain::time::{TIMERS, program, set_upkeep_in, take_slice_end, tick};
use crate::domain::{self, Domain, notify};
use crate::life::machine_check;
use crate::timer::{Key, What};

/// The most deadlines that are handled at once. A domain can set as many to the same time as it has vCPUs.
const MAX_EXPIRED: usize = 64;

/// Handles the deadlines of this CPU that have passed. If some are left, the timer is set to fire at once, so that other
/// interrupts can come in between.
pub fn expire() {
    let cpu = percpu::this_cpu();
    let now = time::stamp();
    let (_, now_ns) = now;
    let expired = core::iter::from_fn(|| TIMERS.pop_expired(cpu, now_ns));
    for key in expired.take(MAX_EXPIRED) {
        act(key, now_ns);
    }
    if take_slice_end(now_ns) {
        work::raise(cpu, work::SCHEDULE);
    }
    program(now);
}

/// Handles one deadline. Mostly it concerns the vCPU that runs on this CPU, whose domain need not be looked up.
fn act(key: Key, now_ns: u64) {
    let here = running().filter(|running| running.dom.id() == key.dom);
    if let Some(running) = here {
        act_for(&running.dom, key, now_ns);
    } else if key == Key::UPKEEP {
        upkeep();
    } else if let Some(dom) = domain::registry::lookup_noted(key.dom) {
        act_for(&dom, key, now_ns);
    }
}

/// Does the periodic work of each CPU: it looks for machine checks and corrects its clock.
pub fn upkeep() {
    let mut again_ns = machine_check::look();
    if let Some(period_ns) = platform_clock::period_ns() {
        again_ns = again_ns.min(period_ns);
        work::raise_here(work::CLOCK);
    }
    set_upkeep_in(again_ns);
}

/// Corrects this CPU's clock. True if the clock changed; the timer is then set again, because deadlines are in
/// the clock's time.
#[inline(never)] // keeps its stack frame off the path of other work
pub fn correct_clock() -> bool {
    let is_corrected = platform_clock::correct();
    if is_corrected {
        work::raise_here(work::TIMER);
    }
    is_corrected
}

fn act_for(dom: &Arc<Domain>, key: Key, now_ns: u64) {
    let Some(vcpu) = dom.vcpu(key.vcpu) else {
        return;
    };
    match key.what {
        What::Singleshot => {
            let due_ns = vcpu.singleshot_ns.load(Ordering::Acquire);
            // Another CPU may set a new deadline meanwhile, which must not be lost.
            let take = || {
                let (acquire, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
                vcpu.singleshot_ns
                    .compare_exchange(due_ns, 0, acquire, relaxed)
            };
            if due_ns != 0 && due_ns <= now_ns && take().is_ok() {
                notify::virq_to(dom, vcpu.id, VIRQ_TIMER);
            }
        }
        What::Periodic => tick(dom, vcpu, now_ns),
        What::Poll => notify::end_poll(dom, vcpu),
        What::Watchdog(number) => domain::watchdog::bark(dom, number),
        What::Upkeep => {}
    }
}
