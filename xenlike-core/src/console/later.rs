//! What handlers have to say that may have hit this CPU while it held any lock, the console's too: it is noted, and told
//! where no lock is held.

use crate::kit::atomic::{AtomicU32, Ordering};

/// NMIs that nobody asked for and nobody was told of.
static UNKNOWN_NMIS: AtomicU32 = AtomicU32::new(0);

/// Notes an NMI that nobody asked for.
pub fn unknown_nmi() {
    UNKNOWN_NMIS.fetch_add(1, Ordering::Relaxed);
}

/// Tells what was noted.
pub fn tell() {
    if UNKNOWN_NMIS.load(Ordering::Relaxed) == 0 {
        return;
    }
    match UNKNOWN_NMIS.swap(0, Ordering::Relaxed) {
        0 => {}
        count => log::warn!("NMI of unknown cause, {count} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_noted_waits_for_the_console() {
        let console = super::super::CONSOLE.lock();
        unknown_nmi();
        assert_eq!(UNKNOWN_NMIS.load(Ordering::Relaxed), 1);
        drop(console);
        tell();
        assert_eq!(UNKNOWN_NMIS.load(Ordering::Relaxed), 0);
    }
}
