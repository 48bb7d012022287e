//! Deadlines: what to do when one passes.

use crate::kit::atomic::Ordering;
use alloc::sync::Arc;

use guest_pv_abi::xen::VIRQ_TIMER;

use super::current::running;
use crate::arch::{percpu, time, work};
use crate::domain::time::{TIMERS, program, set_timer, take_slice_end};
use crate::domain::{self, Domain, notify};
use crate::timer::{Key, What};

/// Acts on every deadline of this CPU that has passed.
pub fn expire() {
    let cpu = percpu::this_cpu();
    let now = time::stamp();
    let (_, now_ns) = now;
    while let Some(key) = TIMERS.pop_expired(cpu, now_ns) {
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
    } else if let Some(dom) = domain::registry::lookup_noted(key.dom) {
        act_for(&dom, key, now_ns);
    }
}

fn act_for(dom: &Arc<Domain>, key: Key, now_ns: u64) {
    let Some(vcpu) = dom.vcpu(key.vcpu) else {
        return;
    };
    match key.what {
        What::Singleshot => {
            let due_ns = vcpu.singleshot_ns.load(Ordering::Acquire);
            if due_ns != 0 && due_ns <= now_ns {
                vcpu.singleshot_ns.store(0, Ordering::Release);
                notify::virq_to(dom, vcpu.id, VIRQ_TIMER);
            }
        }
        What::Periodic => {
            let period_ns = vcpu.periodic_ns.load(Ordering::Acquire);
            if period_ns != 0 {
                notify::virq_to(dom, vcpu.id, VIRQ_TIMER);
                let next_ns = now_ns.saturating_add(period_ns);
                if set_timer(&vcpu.timers.periodic, next_ns).is_err() {
                    log::warn!(
                        "{:?}{:?}: periodic timer lost: no memory",
                        dom.id(),
                        vcpu.id
                    );
                }
            }
        }
        What::Poll => notify::end_poll(dom, vcpu),
        What::Watchdog(number) => domain::watchdog::bark(dom, number),
    }
}
