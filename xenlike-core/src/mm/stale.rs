//! Stale translations: a CPU's TLB may hold a mapping that the tables have lost. A frame carries the
//! time at which its last mapping went; before the frame becomes something else, every CPU must have
//! flushed after that time. The clock and the flush are `arch`'s, given here once at boot.

use crate::kit::Once;

/// The flush clock and its one operation.
pub struct Clock {
    /// The time now.
    pub now: fn() -> u32,
    /// Comes back when every CPU has flushed its TLB after the given time.
    pub flush: fn(u32),
}

static CLOCK: Once<Clock> = Once::new();

/// Gives the clock; before that (one CPU, no guest) nothing is ever stale.
pub fn set_clock(clock: Clock) {
    CLOCK.call_once(|| clock);
}

/// The stamp for a frame whose last mapping or reference goes now.
pub fn now() -> u32 {
    CLOCK.get().map_or(0, |c| (c.now)())
}

/// Comes back when no CPU holds a translation from `stamp` or earlier.
pub fn flush(stamp: u32) {
    if let Some(c) = CLOCK.get() {
        (c.flush)(stamp);
    }
}
