//! Deadlines: what to do when one passes.

use crate::kit::atomic::Ordering;
use alloc::sync::Arc;

use guest_pv_abi::xen::VIRQ_TIMER;

use super::current::running;
use crate::arch::{percpu, platform_clock, time, work};
use crate::domain::time::{TIMERS, program, set_upkeep_in, take_slice_end, tick};
use crate::domain::{self, Domain, notify};
use crate::life::machine_check;
use crate::timer::{Key, What};

/// Deadlines that are acted on in one go. A domain may set as many to one moment as it has vCPUs.
const MAX_EXPIRED: usize = 64;

/// Acts on the deadlines of this CPU that have passed. Those that are left over have the timer's interrupt come
/// at once, which other interrupts may precede.
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

/// Acts on one, which is mostly of who runs here.
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

/// What each CPU does for itself from time to time.
pub fn upkeep() {
    let mut again_ns = machine_check::look();
    if let Some(period_ns) = platform_clock::period_ns() {
        again_ns = again_ns.min(period_ns);
        work::raise_here(work::CLOCK);
    }
    set_upkeep_in(again_ns);
}

/// Corrects this CPU's clock; true if it changed. Deadlines are set by it anew.
#[inline(never)] // not for others' work to carry
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
            // It may be set anew meanwhile.
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
