//! Sleeps until something happens: keys, the end of a domain, console output of a domain, or a point in time.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use xenlike_rt::abi::Errno;
use xenlike_rt::abi::xen::VIRQ_TIMER;
use xenlike_rt::events::{self, Port};
use xenlike_rt::{hyper, time};

/// What a virtual interrupt reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Keys were typed.
    Keys,
    /// A domain has ended.
    Ends,
}

/// What has happened since the last call.
#[derive(Debug, Clone, Copy)]
pub struct Happened {
    /// Keys were typed.
    pub keys: bool,
    /// A domain has ended.
    pub ends: bool,
}

static KEYS: AtomicBool = AtomicBool::new(false);
static ENDS: AtomicBool = AtomicBool::new(false);
static OTHER: AtomicBool = AtomicBool::new(false);
/// The timer's port; 0 until the first alarm.
static TIMER: AtomicU32 = AtomicU32::new(0);

/// Binds a virtual interrupt and handles it from now on.
pub fn bind_virq(virq: u32, news: News) -> Result<(), Errno> {
    let port = events::bind_virq(virq, 0)?;
    let handler: events::Handler = match news {
        News::Keys => |_| KEYS.store(true, Ordering::Relaxed),
        News::Ends => |_| ENDS.store(true, Ordering::Relaxed),
    };
    events::on(port, handler);
    // Earlier interrupts were not delivered, so act as if there was one.
    handler(port);
    Ok(())
}

/// Connects to a port of a domain.
pub fn bind_domain(dom: u16, port: Port) -> Result<Port, Errno> {
    let port = events::bind_interdomain(dom, port)?;
    events::on(port, |_| OTHER.store(true, Ordering::Relaxed));
    Ok(port)
}

/// Sets the time of the next timer event.
fn set_alarm(at_ns: u64) {
    if TIMER.load(Ordering::Relaxed) == 0
        && let Ok(port) = events::bind_virq(VIRQ_TIMER, 0)
    {
        TIMER.store(port, Ordering::Relaxed);
        events::on(port, |_| OTHER.store(true, Ordering::Relaxed));
    }
    // Without a timer, only the next event ends the sleep.
    let _ = hyper::set_timer(at_ns);
}

/// Sleeps until an event arrives, or until a point in time if there is one.
pub fn wait(until_ns: Option<u64>) -> Happened {
    if let Some(until_ns) = until_ns {
        set_alarm(until_ns.max(1));
    }
    loop {
        // With upcalls masked, no event can slip in between the check and the sleep, which unmasks them.
        events::close_upcalls();
        let happened = Happened {
            keys: KEYS.swap(false, Ordering::Relaxed),
            ends: ENDS.swap(false, Ordering::Relaxed),
        };
        let other = OTHER.swap(false, Ordering::Relaxed);
        let late = until_ns.is_some_and(|until| time::now_ns() >= until);
        if happened.keys || happened.ends || other || late {
            events::open();
            return happened;
        }
        hyper::block();
    }
}
