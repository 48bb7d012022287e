//! Messages of handlers that may hit a CPU while it holds any lock, the console's included. They are counted, and
//! logged where no lock is held.

use crate::kit::atomic::{AtomicU32, Ordering};

/// The number of NMIs of unknown cause that have not been logged yet.
static UNKNOWN_NMIS: AtomicU32 = AtomicU32::new(0);

/// Counts an NMI of unknown cause.
pub fn unknown_nmi() {
    UNKNOWN_NMIS.fetch_add(1, Ordering::Relaxed);
}

/// Logs what was counted. The caller holds no lock.
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
