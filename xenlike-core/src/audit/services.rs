//! Checks of what must agree between two services.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use super::stopped::Stopped;
use crate::domain::time::{TIMERS, UPKEEP};
use crate::domain::vcpu::pause;
use crate::domain::{Domain, Life, Vcpu, registry};
use crate::event::StatusKind;
use crate::irq::machine::book;
use crate::kit::atomic::Ordering;
use crate::pagetype::claims;
use crate::timer::{Key, Timer, What};

/// Checks the vCPUs of a domain against its events and the deadlines.
pub(super) fn check_domain(dom: &Domain, stopped: &Stopped) -> Result<(), String> {
    if dom.life() != Life::Alive {
        return Ok(());
    }
    for vcpu in dom.vcpus() {
        let who = || format!("vCPU {} of domain {}", vcpu.id.0, dom.id().0);
        let says_so = vcpu.gate.holds() & pause::POLLING != 0;
        if says_so != dom.events.polls(vcpu.id) {
            return Err(format!(
                "{}: polls, or not: its flags and the events differ",
                who()
            ));
        }
        // Periodic timers don't run while their vCPU has no CPU.
        let runs = vcpu.cpu().is_some();
        for (what, goes, value, timer) in [
            (
                "one-shot",
                true,
                &vcpu.singleshot_ns,
                &vcpu.timers.singleshot,
            ),
            ("periodic", runs, &vcpu.periodic_ns, &vcpu.timers.periodic),
        ] {
            if goes && value.load(Ordering::Relaxed) != 0 && !TIMERS.is_set(timer) {
                return Err(format!(
                    "{}: its {what} timer is to come, and is not set",
                    who()
                ));
            }
        }
        let st = stopped.state(vcpu);
        if vcpu.cpu().is_some() && st.pv().kernel_root.is_none() {
            return Err(format!("{}: on a CPU without page tables", who()));
        }
    }
    Ok(())
}

/// Checks deadlines, interrupts and claims against the domains that own them.
pub(super) fn check_machine(domains: &[Arc<Domain>]) -> Result<(), String> {
    for cpu in super::cpus() {
        TIMERS.check(cpu, &on_timer)?;
    }
    check_interrupts()?;
    let claims = domains.iter().map(|dom| dom.pages.claim_left());
    let (counted, noted) = (claims.sum::<u64>(), claims::claimed());
    if counted == noted {
        Ok(())
    } else {
        Err(format!(
            "{counted} frames claimed by all domains, {noted} noted"
        ))
    }
}

/// Calls `then` with the timer of this key and returns its result; false if there is no such timer.
fn on_timer(key: Key, then: &dyn Fn(&Timer) -> bool) -> bool {
    if key.what == What::Upkeep {
        return UPKEEP.all().iter().any(then);
    }
    let Some(dom) = registry::lookup_noted(key.dom) else {
        return false;
    };
    let of_vcpu =
        |pick: fn(&Vcpu) -> &Timer| dom.vcpu(key.vcpu).is_some_and(|vcpu| then(pick(vcpu)));
    match key.what {
        What::Singleshot => of_vcpu(|vcpu| &vcpu.timers.singleshot),
        What::Periodic => of_vcpu(|vcpu| &vcpu.timers.periodic),
        What::Poll => of_vcpu(|vcpu| &vcpu.timers.poll),
        What::Watchdog(number) => dom.watchdogs.timer(number).is_some_and(then),
        What::Upkeep => false,
    }
}

/// Checks that each holder of an interrupt has a port for it.
fn check_interrupts() -> Result<(), String> {
    let Some(book) = book() else { return Ok(()) };
    let holders = book.lines().iter().flat_map(|line| &line.holders);
    let holders: arrayvec::ArrayVec<_, 512> = holders.copied().take(512).collect();
    drop(book);
    for holder in holders {
        let dom = registry::lookup(holder.dom);
        let kind = dom.and_then(|dom| dom.events.status(holder.port).ok());
        if kind.map(|status| status.kind) != Some(StatusKind::Pirq(holder.pirq)) {
            return Err(format!(
                "interrupt {} of domain {}: {:?} is not its port",
                holder.pirq, holder.dom.0, holder.port
            ));
        }
    }
    Ok(())
}
