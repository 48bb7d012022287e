//! Which messages are shown: `loglvl=` and `guest_loglvl=`.

use log::{Level, LevelFilter};

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

    /// Whether a message is shown.
    pub fn shows(&self, target: &str, level: Level) -> bool {
        let limit = if target == GUEST {
            self.guest
        } else {
            self.own
        };
        level <= limit
    }
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
        let levels = Levels::DEFAULT;
        assert!(levels.shows("xenlike_core::boot", Level::Info));
        assert!(!levels.shows(GUEST, Level::Info));
        assert!(levels.shows(GUEST, Level::Warn));
    }
}
