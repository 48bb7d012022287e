//! Debug keys that print the state of domains.

use crate::kit::atomic::Ordering;
use alloc::sync::Arc;

use log::info;

use super::breathe;
use crate::arch::work;
use crate::domain::notify::SCHED;
use crate::domain::vcpu::pause;
use crate::domain::{self, Domain, Vcpu, registry};
use crate::event::StatusKind;
use crate::grant::Version;
use crate::kit::{DomId, Port};

/// The maximum number of lines for a domain, of a list that may be long.
const MAX_PORTS: usize = 64;

/// Prints every domain with its vCPUs.
pub(super) fn all() {
    for dom in registry::from(DomId(0)) {
        about(&dom);
        for vcpu in dom.vcpus() {
            info!("  {:?}: {}", vcpu.id, Doing(vcpu));
            breathe();
        }
    }
}

/// Prints the vCPUs that have a pending NMI.
pub(super) fn nmis() {
    for dom in registry::from(DomId(0)) {
        let waits = |vcpu: &&Arc<Vcpu>| vcpu.nmi_pending.load(Ordering::Relaxed) != 0;
        for vcpu in dom.vcpus().iter().filter(waits) {
            info!("{:?} {:?}: an NMI waits", dom.id(), vcpu.id);
            breathe();
        }
    }
}

fn about(dom: &Domain) {
    let pages = &dom.pages;
    info!(
        "{:?}: {:?}, {:?} rights, {} of {} pages, {} shared, pauses {}, ended {:?}",
        dom.id(),
        dom.life(),
        dom.rights(),
        pages.total(),
        pages.max(),
        pages.shared(),
        dom.toolstack_pauses.load(Ordering::Relaxed),
        dom.shutdown.lock().reason,
    );
}

/// Formats what a vCPU does.
struct Doing<'a>(&'a Vcpu);

impl core::fmt::Display for Doing<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let flags = self.0.gate.holds();
        match self.0.cpu() {
            Some(cpu) => write!(f, "on {cpu:?}")?,
            None => f.write_str("on no CPU")?,
        }
        let names = [
            (pause::DOWN, "down"),
            (pause::BLOCKED, "blocked"),
            (pause::POLLING, "polling"),
            (pause::HELD, "held"),
            (pause::SHUT_DOWN, "shut down"),
            (pause::DYING, "dying"),
        ];
        for (_, name) in names.iter().filter(|(flag, _)| flags & flag != 0) {
            write!(f, ", {name}")?;
        }
        let pending =
            self.0.has_info() && self.0.info.upcall_pending().load(Ordering::Relaxed) != 0;
        f.write_str(if pending { ", has events" } else { "" })
    }
}

/// Prints how long each vCPU has run, and its CPUs.
pub(super) fn scheduling() {
    info!(
        "CPUs {:?}, idle {:?}",
        Cpus(SCHED.online()),
        Cpus(SCHED.idle())
    );
    info!(
        "time slice {} us, at least {} us",
        SCHED.slice_ns() / 1000,
        SCHED.ratelimit_ns() / 1000
    );
    for dom in registry::from(DomId(0)) {
        for vcpu in dom.vcpus() {
            info!(
                "{:?}{:?}: home {:?}, runs on {:?}, ran {} ms",
                dom.id(),
                vcpu.id,
                SCHED.home(vcpu.unit),
                SCHED.running_on(vcpu.unit),
                SCHED.cpu_time_ns(vcpu.unit) / 1_000_000
            );
            breathe();
        }
    }
}

/// Formats a set of CPUs by their numbers.
struct Cpus(crate::kit::cpuset::CpuSet);

impl core::fmt::Debug for Cpus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|cpu| cpu.0))
            .finish()
    }
}

/// Prints the open ports, and what they are connected to.
pub(super) fn events() {
    for dom in registry::from(DomId(0)) {
        info!("{:?}:", dom.id());
        let (mut from, mut left) = (Port(1), MAX_PORTS);
        while let Some(port) = dom.events.next_open(from) {
            if left == 0 {
                info!("  and more");
                break;
            }
            left = left.saturating_sub(1);
            from = Port(port.0.saturating_add(1));
            breathe();
            if let Ok(status) = dom.events.status(port) {
                info!(
                    "  {:?}: {} for {:?}",
                    port,
                    Connected(status.kind),
                    status.vcpu
                );
            }
        }
    }
}

struct Connected(StatusKind);

impl core::fmt::Display for Connected {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            StatusKind::Closed => f.write_str("closed"),
            StatusKind::Unbound(dom) => write!(f, "waits for {dom:?}"),
            StatusKind::Interdomain(dom, port) => write!(f, "to {dom:?} {port:?}"),
            StatusKind::Pirq(pirq) => write!(f, "interrupt {pirq}"),
            StatusKind::Virq(virq) => write!(f, "virtual IRQ {virq}"),
            StatusKind::Ipi => f.write_str("between its vCPUs"),
        }
    }
}

/// Prints the versions and sizes of grant tables.
pub(super) fn grants() {
    for dom in registry::from(DomId(0)) {
        let (frames, most) = dom.grants.size();
        let version = match dom.grants.version() {
            Version::V1 => 1,
            Version::V2 => 2,
        };
        info!(
            "{:?}: version {version}, {frames} of {most} frames",
            dom.id()
        );
        breathe();
    }
}

/// Prints domain 0's vCPUs. A CPU that runs one of them prints its registers itself; those of the others are
/// in their states.
pub(super) fn dom0() {
    let Some(dom) = domain::lookup(DomId::DOM0) else {
        return info!("there is no domain 0");
    };
    about(&dom);
    for vcpu in dom.vcpus() {
        breathe();
        info!("  {:?}: {}", vcpu.id, Doing(vcpu));
        if let Some(cpu) = vcpu.cpu() {
            work::raise(cpu, work::DUMP);
        } else if let Some(state) = vcpu.descheduled() {
            let (mode, address) = (state.kind.mode(), state.kind.cr2());
            info!("in {mode} mode, last fault address {address:#x}");
            info!("{}", state.regs);
        }
    }
}
