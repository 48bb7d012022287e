//! Deadlines: what to do when one passes, and keeping the hardware timer at the first of them.

use core::sync::atomic::{AtomicU64, Ordering};

use guest_pv_abi::xen::VIRQ_TIMER;

use crate::arch::{apic_timer, percpu, time, work};
use crate::domain::time::{TIMERS, set_timer};
use crate::domain::{self, notify};
use crate::kit::MAX_CPUS;
use crate::kit::cell::PerCpu;
use crate::timer::{Key, What};

/// When each CPU asks the scheduler again at the latest, in ns; `u64::MAX` without a limit.
static SLICE_END: PerCpu<AtomicU64> = PerCpu::new([const { AtomicU64::new(u64::MAX) }; MAX_CPUS]);

/// Sets the end of this CPU's present turn.
pub fn set_slice(until_ns: Option<u64>) {
    SLICE_END
        .of(percpu::this_cpu())
        .store(until_ns.unwrap_or(u64::MAX), Ordering::Relaxed);
    program();
}

/// Sets this CPU's hardware timer to its first deadline.
pub fn program() {
    let cpu = percpu::this_cpu();
    let slice = SLICE_END.of(cpu).load(Ordering::Relaxed);
    let first = TIMERS.next_deadline_ns(cpu).unwrap_or(u64::MAX).min(slice);
    apic_timer::set_deadline_ns((first != u64::MAX).then_some(first));
}

/// Acts on every deadline of this CPU that has passed.
pub fn expire() {
    let cpu = percpu::this_cpu();
    let now_ns = time::now_ns();
    while let Some(key) = TIMERS.pop_expired(cpu, now_ns) {
        act(key, now_ns);
    }
    if SLICE_END.of(cpu).load(Ordering::Relaxed) <= now_ns {
        SLICE_END.of(cpu).store(u64::MAX, Ordering::Relaxed);
        work::raise(cpu, work::SCHEDULE);
    }
    program();
}

fn act(key: Key, now_ns: u64) {
    let Some(dom) = domain::registry::lookup_noted(key.dom) else {
        return;
    };
    let Some(vcpu) = dom.vcpu(key.vcpu) else {
        return;
    };
    match key.what {
        What::Singleshot => {
            let due_ns = vcpu.singleshot_ns.load(Ordering::Acquire);
            if due_ns != 0 && due_ns <= now_ns {
                vcpu.singleshot_ns.store(0, Ordering::Release);
                notify::virq_to(&dom, vcpu.id, VIRQ_TIMER);
            }
        }
        What::Periodic => {
            let period_ns = vcpu.periodic_ns.load(Ordering::Acquire);
            if period_ns != 0 {
                notify::virq_to(&dom, vcpu.id, VIRQ_TIMER);
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
        What::Poll => notify::end_poll(&dom, vcpu),
        What::Watchdog(number) => domain::watchdog::bark(&dom, number),
    }
}
