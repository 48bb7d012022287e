//! Which messages are shown, by `loglvl=` and `guest_loglvl=`.

use log::{Level, LevelFilter};

use crate::kit::GUEST_LOG;
use crate::kit::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// The least urgent levels of one kind of messages that are shown: without a limit, and at a limited rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Levels {
    /// Messages down to this level are always shown.
    pub always: LevelFilter,
    /// Less urgent messages down to this level are shown at a limited rate.
    pub limited: LevelFilter,
}

impl Levels {
    /// The default for the core's own messages (`loglvl=`).
    pub const OWN: Self = Self {
        always: LevelFilter::Info,
        limited: LevelFilter::Info,
    };
    /// The default for messages about guests (`guest_loglvl=`). A guest can cause any number of
    /// them, so all are limited.
    pub const GUEST: Self = Self {
        always: LevelFilter::Off,
        limited: LevelFilter::Warn,
    };

    /// Parses levels in Xen's spelling: one level, or the level that is always shown, a slash, and the level that is
    /// shown at a limited rate.
    pub fn parse(text: &str) -> Option<Self> {
        let (always, limited) = text.split_once('/').unwrap_or((text, text));
        let (always, limited) = (level(always)?, level(limited)?);
        let limited = limited.max(always);
        Some(Self { always, limited })
    }
}

fn level(name: &str) -> Option<LevelFilter> {
    Some(match name {
        "none" => LevelFilter::Off,
        "error" => LevelFilter::Error,
        "warning" => LevelFilter::Warn,
        "info" => LevelFilter::Info,
        "debug" => LevelFilter::Debug,
        "all" => LevelFilter::Trace,
        _ => return None,
    })
}

/// The levels in force for one kind of messages. They are read without the console's lock, so that a guest can't
/// contend for it by messages that are not shown.
struct Kind {
    always: AtomicUsize,
    limited: AtomicUsize,
}

impl Kind {
    const fn new(levels: Levels) -> Self {
        Self {
            always: AtomicUsize::new(levels.always as usize),
            limited: AtomicUsize::new(levels.limited as usize),
        }
    }
    fn set(&self, levels: Levels) {
        self.always.store(levels.always as usize, Ordering::Relaxed);
        self.limited
            .store(levels.limited as usize, Ordering::Relaxed);
    }
}

static OWN: Kind = Kind::new(Levels::OWN);
static ABOUT_GUESTS: Kind = Kind::new(Levels::GUEST);

fn kind(target: &str) -> &'static Kind {
    if target == GUEST_LOG {
        &ABOUT_GUESTS
    } else {
        &OWN
    }
}

/// Sets the levels of the core's own messages, and of those about guests.
pub fn set(own: Levels, guest: Levels) {
    OWN.set(own);
    ABOUT_GUESTS.set(guest);
}

/// Whether a message may be shown: always, or at a limited rate.
pub fn may_be_shown(target: &str, level: Level) -> bool {
    level as usize <= kind(target).limited.load(Ordering::Relaxed)
}

/// Whether a message is shown now: it is always shown, or may be shown and there were few lately. Counts it if limited.
pub fn is_shown(target: &str, level: Level, now_ns: u64) -> bool {
    level as usize <= kind(target).always.load(Ordering::Relaxed)
        || may_be_shown(target, level) && RATE.admits(now_ns)
}

/// The number of messages that were dropped since the last call.
pub fn take_left_out() -> u32 {
    RATE.left_out.swap(0, Ordering::Relaxed)
}

/// The limit: this many messages in each period of this length (ns), as on Xen.
const MAX_MESSAGES: u64 = 10;
const PERIOD_NS: u64 = 5_000_000_000;

/// The count of messages in the current period.
struct Rate {
    /// The number of the period, above the low byte; in the low byte, the number of messages that were admitted in it.
    word: AtomicU64,
    left_out: AtomicU32,
}

static RATE: Rate = Rate::new();

impl Rate {
    const fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            left_out: AtomicU32::new(0),
        }
    }

    /// Whether one more message may be shown. If CPUs collide, one of them may be refused too early, which is harmless.
    fn admits(&self, now_ns: u64) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        // A CPU whose clock is behind must not restart an earlier period.
        let period = (now_ns / PERIOD_NS).max(word >> 8);
        let count = if word >> 8 == period { word & 0xff } else { 0 };
        let next = period << 8 | count.saturating_add(1);
        let admitted = count < MAX_MESSAGES && {
            let changed =
                self.word
                    .compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed);
            changed.is_ok()
        };
        if !admitted {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_as_xen_spells_them() {
        let levels = |always, limited| Some(Levels { always, limited });
        assert_eq!(
            Levels::parse("all"),
            levels(LevelFilter::Trace, LevelFilter::Trace)
        );
        assert_eq!(
            Levels::parse("error/debug"),
            levels(LevelFilter::Error, LevelFilter::Debug)
        );
        // The limited level includes what is always shown.
        assert_eq!(
            Levels::parse("info/error"),
            levels(LevelFilter::Info, LevelFilter::Info)
        );
        for unknown in ["loud", "all/loud", "", "/"] {
            assert_eq!(Levels::parse(unknown), None);
        }
    }

    #[test]
    fn guests_have_their_own_limit() {
        assert!(may_be_shown("xenlike_core::boot", Level::Info));
        assert!(!may_be_shown(GUEST_LOG, Level::Info));
        assert!(may_be_shown(GUEST_LOG, Level::Warn));
        assert!(is_shown("xenlike_core::boot", Level::Info, 0));
    }

    #[test]
    fn few_messages_pass_and_the_others_are_counted() {
        let rate = Rate::new();
        let pass = |from: u64| {
            let times = (0..100).map(|n| from + n * 1_000_000);
            times.filter(|&now| rate.admits(now)).count() as u64
        };
        assert_eq!(pass(0), MAX_MESSAGES);
        assert_eq!(rate.left_out.load(Ordering::Relaxed), 90);
        assert_eq!(pass(4_000_000_000), 0);
        assert_eq!(pass(PERIOD_NS), MAX_MESSAGES);
        // A CPU whose clock is behind restarts no period.
        assert_eq!(pass(0), 0);
        assert_eq!(pass(PERIOD_NS), 0);
        assert_eq!(pass(1 << 62), MAX_MESSAGES);
    }
}
