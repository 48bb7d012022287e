//! Which messages are shown: `loglvl=` and `guest_loglvl=`.

use log::{Level, LevelFilter};

use crate::kit::atomic::{AtomicUsize, Ordering};

/// The target of messages about what a guest did.
pub const GUEST: &str = "guest";

/// The least urgent messages shown, of the core's own and of those about guests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Levels {
    /// The core's own.
    pub own: LevelFilter,
    /// About guests.
    pub guest: LevelFilter,
}

impl Levels {
    /// What is shown without options.
    pub const DEFAULT: Self = Self {
        own: LevelFilter::Info,
        guest: LevelFilter::Warn,
    };
}

/// The levels in force. They are looked at without the console's lock, so that a guest doesn't
/// reach that by what is not shown.
static OWN_LEVEL: AtomicUsize = AtomicUsize::new(Levels::DEFAULT.own as usize);
static GUEST_LEVEL: AtomicUsize = AtomicUsize::new(Levels::DEFAULT.guest as usize);

/// Sets which messages are shown.
pub fn set(levels: Levels) {
    OWN_LEVEL.store(levels.own as usize, Ordering::Relaxed);
    GUEST_LEVEL.store(levels.guest as usize, Ordering::Relaxed);
}

/// Whether a message is shown.
pub fn is_shown(target: &str, level: Level) -> bool {
    let limit = if target == GUEST {
        &GUEST_LEVEL
    } else {
        &OWN_LEVEL
    };
    level as usize <= limit.load(Ordering::Relaxed)
}

/// A level as Xen spells it. A second one after a slash, for messages that come too fast, is
/// accepted and has no effect.
pub fn parse(text: &str) -> Option<LevelFilter> {
    let name = text.split('/').next()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_as_xen_spells_them() {
        assert_eq!(parse("all"), Some(LevelFilter::Trace));
        assert_eq!(parse("warning/debug"), Some(LevelFilter::Warn));
        assert_eq!(parse("loud"), None);
    }

    #[test]
    fn guests_have_their_own_limit() {
        assert!(is_shown("xenlike_core::boot", Level::Info));
        assert!(!is_shown(GUEST, Level::Info));
        assert!(is_shown(GUEST, Level::Warn));
    }
}
