//! Shutdown of a domain: by itself (SCHEDOP_shutdown), by a crash, or by the toolstack.

use alloc::sync::Arc;

use guest_pv_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_SUSPEND};

use super::{Domain, notify, vcpu};
use crate::arch::work;
use crate::kit::{DomId, GUEST_LOG, Port};

/// Whether and why a domain has shut down.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shutdown {
    /// The reason (sched.h, `SHUTDOWN_*`), once the domain has shut down.
    pub reason: Option<u32>,
    /// The code of SCHEDOP_shutdown_code, which is reported instead of the reason.
    pub code: Option<u8>,
    /// The domain's port that is signalled once it has suspended (XEN_DOMCTL_subscribe); 0 for none.
    pub suspend_port: u32,
}

/// Shuts `dom` down for `reason`: its vCPUs stop, and the toolstack is notified (VIRQ_DOM_EXC). A second call has no effect.
pub fn shutdown(dom: &Arc<Domain>, reason: u32) {
    let port = {
        let mut state = dom.shutdown.lock();
        if state.reason.is_some() {
            return;
        }
        state.reason = Some(reason);
        state.suspend_port
    };
    for vcpu in dom.vcpus() {
        notify::hold(vcpu, vcpu::pause::SHUT_DOWN);
    }
    if matches!(dom.id(), DomId::DOM0 | DomId::BOOT) {
        // No toolstack handles these two domains; the core does.
        work::raise_here(work::LIFE);
    }
    notify::domain_exception();
    if reason == SHUTDOWN_SUSPEND
        && port != 0
        && let Ok(notice) = dom.events.send(Port(port))
    {
        notify::act(notice);
    }
}

/// Shuts `dom` down because it can't continue; `why` is logged.
#[cfg_attr(
    not(test),
    expect(
        clippy::panic,
        reason = "without the boot domain there is nothing to run (DESIGN D1)"
    )
)]
pub fn crash(dom: &Arc<Domain>, why: &str) {
    let id = dom.id();
    if id == DomId::BOOT {
        panic!("the boot domain crashed: {why}");
    }
    log::warn!(target: GUEST_LOG, "{id:?} crashed: {why}");
    shutdown(dom, SHUTDOWN_CRASH);
}

/// Lets a domain that has shut down continue (XEN_DOMCTL_resumedomain).
pub fn resume(dom: &Domain) {
    dom.shutdown.lock().reason = None;
    for vcpu in dom.vcpus() {
        notify::release(vcpu, vcpu::pause::SHUT_DOWN);
    }
}
