//! Which messages are shown: `loglvl=` and `guest_loglvl=`.

use log::{Level, LevelFilter};

use crate::kit::GUEST_LOG;
use crate::kit::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// The least urgent messages of one kind that are shown: all of them, and as long as there are few.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Levels {
    /// So urgent ones always.
    pub always: LevelFilter,
    /// Less urgent ones down to these at a limited rate.
    pub limited: LevelFilter,
}

impl Levels {
    /// The core's own messages without `loglvl=`.
    pub const OWN: Self = Self {
        always: LevelFilter::Info,
        limited: LevelFilter::Info,
    };
    /// Those about guests without `guest_loglvl=`: a guest may cause as many as it likes.
    pub const GUEST: Self = Self {
        always: LevelFilter::Off,
        limited: LevelFilter::Warn,
    };

    /// Levels as Xen spells them: one, or that of what is always shown and behind a slash that of what is shown at
    /// a limited rate.
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

/// The levels of one kind in force. They are looked at without the console's lock, so that a guest doesn't
/// reach that by what is not shown.
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

/// Sets which of the core's own messages are shown, and which of those about guests.
pub fn set(own: Levels, guest: Levels) {
    OWN.set(own);
    ABOUT_GUESTS.set(guest);
}

/// Whether a message is shown as long as there are few.
pub fn may_be_shown(target: &str, level: Level) -> bool {
    level as usize <= kind(target).limited.load(Ordering::Relaxed)
}

/// Whether a message is shown now: it is urgent, or it may be shown and there were few lately.
pub fn is_shown(target: &str, level: Level, now_ns: u64) -> bool {
    level as usize <= kind(target).always.load(Ordering::Relaxed)
        || may_be_shown(target, level) && RATE.admits(now_ns)
}

/// How many messages were left out since the last call.
pub fn take_left_out() -> u32 {
    RATE.left_out.swap(0, Ordering::Relaxed)
}

/// So many messages in so long a time, as Xen has it.
const MOST: u64 = 10;
const PERIOD_NS: u64 = 5_000_000_000;

/// Counts the messages of a period.
struct Rate {
    /// The period's number above, how many there were in it in the low byte.
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

    /// Whether one more may be shown. Where CPUs collide, one of them may be refused too early: no harm.
    fn admits(&self, now_ns: u64) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        // A CPU whose clock is behind doesn't begin an earlier period anew.
        let period = (now_ns / PERIOD_NS).max(word >> 8);
        let count = if word >> 8 == period { word & 0xff } else { 0 };
        let next = period << 8 | count.saturating_add(1);
        let admitted = count < MOST && {
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
        // What is always shown is shown.
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
        assert_eq!(pass(0), MOST);
        assert_eq!(rate.left_out.load(Ordering::Relaxed), 90);
        assert_eq!(pass(4_000_000_000), 0);
        assert_eq!(pass(PERIOD_NS), MOST);
        // A CPU whose clock is behind begins nothing anew.
        assert_eq!(pass(0), 0);
        assert_eq!(pass(PERIOD_NS), 0);
        assert_eq!(pass(1 << 62), MOST);
    }
}
