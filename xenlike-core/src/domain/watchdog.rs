//! Watchdogs (SCHEDOP_watchdog): a domain that doesn't renew its watchdog in time is shut down.

use alloc::sync::Arc;

use guest_pv_abi::sched::SHUTDOWN_WATCHDOG;

use super::{Domain, shutdown, time};
use crate::kit::{DomId, GUEST_LOG, Lock, Rank, VcpuId};
use crate::timer::{Key, Timer, What};

/// The number of watchdogs of a domain.
pub const WATCHDOGS: usize = 2;

/// The watchdogs of a domain.
pub struct Watchdogs {
    timers: [Timer; WATCHDOGS],
    /// The deadline of each in ns of system time; 0 if it isn't in use.
    deadlines_ns: Lock<[u64; WATCHDOGS]>,
}

/// Why a watchdog could not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No watchdog with that number is in use.
    NoSuch,
    /// All watchdogs are in use.
    AllTaken,
    /// There is no memory for its deadline.
    NoMemory,
}

impl Watchdogs {
    /// Makes the watchdogs of domain `dom`; none is in use.
    pub const fn new(dom: DomId) -> Self {
        Self {
            timers: [
                Timer::new(Key {
                    dom,
                    vcpu: VcpuId(0),
                    what: What::Watchdog(0),
                }),
                Timer::new(Key {
                    dom,
                    vcpu: VcpuId(0),
                    what: What::Watchdog(1),
                }),
            ],
            deadlines_ns: Lock::new(Rank::Watchdogs, [0; WATCHDOGS]),
        }
    }
}

#[cfg(feature = "audit")]
impl Watchdogs {
    /// Returns the timer of watchdog `number`, counted from 0.
    pub fn timer(&self, number: u8) -> Option<&Timer> {
        self.timers.get(usize::from(number))
    }
}

/// Starts a watchdog (`id` 0), renews one, or stops it (`timeout_s` 0). Returns the number of a new watchdog,
/// counted from 1, and otherwise 0. A new watchdog with a timeout of 0 expires at once, as on Xen.
pub fn set(dom: &Domain, id: u32, timeout_s: u32) -> Result<u32, Refused> {
    let dogs = &dom.watchdogs;
    let mut deadlines = dogs.deadlines_ns.lock();
    let index = match id {
        0 => deadlines
            .iter()
            .position(|&d| d == 0)
            .ok_or(Refused::AllTaken)?,
        n => n.wrapping_sub(1) as usize,
    };
    let deadline = deadlines.get_mut(index).ok_or(Refused::NoSuch)?;
    let timer = dogs.timers.get(index).ok_or(Refused::NoSuch)?;
    if id != 0 && *deadline == 0 {
        return Err(Refused::NoSuch);
    }
    if id != 0 && timeout_s == 0 {
        *deadline = 0;
        time::TIMERS.cancel(timer);
        return Ok(0);
    }
    let at_ns = crate::arch::time::now_ns().saturating_add(u64::from(timeout_s) * 1_000_000_000);
    time::set_timer(timer, at_ns).map_err(|_| Refused::NoMemory)?;
    *deadline = at_ns;
    Ok(if id == 0 {
        (index as u32).saturating_add(1)
    } else {
        0
    })
}

/// Stops all watchdogs for ever, because the domain is being destroyed.
pub fn stop_all(dom: &Domain) {
    let mut deadlines = dom.watchdogs.deadlines_ns.lock();
    for (timer, deadline) in dom.watchdogs.timers.iter().zip(deadlines.iter_mut()) {
        *deadline = 0;
        time::TIMERS.cancel(timer);
    }
}

/// Shuts `dom` down if watchdog `number`, counted from 0, has passed its deadline. The watchdog may have been
/// renewed since its timer fired.
pub fn bark(dom: &Arc<Domain>, number: u8) {
    let due_ns = dom
        .watchdogs
        .deadlines_ns
        .lock()
        .get(usize::from(number))
        .copied();
    if due_ns.is_some_and(|at| at != 0 && at <= crate::arch::time::now_ns()) {
        log::warn!(
            target: GUEST_LOG,
            "{:?}: watchdog {} was not renewed in time",
            dom.id(),
            number.saturating_add(1)
        );
        shutdown::shutdown(dom, SHUTDOWN_WATCHDOG);
    }
}
