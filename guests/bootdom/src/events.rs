//! Sleeping until something happens: keys, a domain's end, a domain's console, a time.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use xenlike_rt::abi::Errno;
use xenlike_rt::abi::xen::VIRQ_TIMER;
use xenlike_rt::events::{self, Port};
use xenlike_rt::{hyper, time};

/// What a virtual interrupt is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Something was typed.
    Keys,
    /// A domain has ended.
    Ends,
}

/// What has happened since the last look.
#[derive(Debug, Clone, Copy)]
pub struct Happened {
    /// Something was typed.
    pub keys: bool,
    /// A domain has ended.
    pub ends: bool,
}

static KEYS: AtomicBool = AtomicBool::new(false);
static ENDS: AtomicBool = AtomicBool::new(false);
static OTHER: AtomicBool = AtomicBool::new(false);
/// The timer's port; 0 until the first alarm.
static TIMER: AtomicU32 = AtomicU32::new(0);

/// Handles a virtual interrupt from now on.
pub fn bind_virq(virq: u32, news: News) -> Result<(), Errno> {
    let port = events::bind_virq(virq, 0)?;
    let handler: events::Handler = match news {
        News::Keys => |_| KEYS.store(true, Ordering::Relaxed),
        News::Ends => |_| ENDS.store(true, Ordering::Relaxed),
    };
    events::on(port, handler);
    // What happened before nobody was told.
    handler(port);
    Ok(())
}

/// Connects a domain's port.
pub fn bind_domain(dom: u16, port: Port) -> Result<Port, Errno> {
    let port = events::bind_interdomain(dom, port)?;
    events::on(port, |_| OTHER.store(true, Ordering::Relaxed));
    Ok(port)
}

/// Sets the next timer event.
fn set_alarm(at_ns: u64) {
    if TIMER.load(Ordering::Relaxed) == 0
        && let Ok(port) = events::bind_virq(VIRQ_TIMER, 0)
    {
        TIMER.store(port, Ordering::Relaxed);
        events::on(port, |_| OTHER.store(true, Ordering::Relaxed));
    }
    // Without a timer the next event must do.
    let _ = hyper::set_timer(at_ns);
}

/// Sleeps until an event comes, or the time, if any.
pub fn wait(until_ns: Option<u64>) -> Happened {
    if let Some(until_ns) = until_ns {
        set_alarm(until_ns.max(1));
    }
    loop {
        // With upcalls closed no event slips in between the look and the sleep, which opens them.
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
