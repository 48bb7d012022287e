//! The frames of devices' registers that domain 0 may only read: pages of MSI-X tables in use, to which only the core
//! writes, and the HPET, which the core may use as its clock.

use core::ops::RangeInclusive;

use alloc::vec::Vec;

use crate::kit::{Lock, Mfn, Rank};

type Frames = RangeInclusive<Mfn>;

/// Each range as often as it is protected.
static PROTECTED: Lock<Vec<Frames>> = Lock::new(Rank::DeviceFrames, Vec::new());

/// There is no memory to note a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Lets domain 0 only read these frames from now on. Mappings that it has already stay as they are.
///
/// # Errors
/// [`NoMemory`]: nothing has changed.
pub fn protect(frames: Frames) -> Result<(), NoMemory> {
    let mut protected = PROTECTED.lock();
    protected.try_reserve(1).map_err(|_| NoMemory)?;
    protected.push(frames);
    Ok(())
}

/// Undoes one [`protect`] of the same frames.
pub fn release(frames: &Frames) {
    let mut protected = PROTECTED.lock();
    if let Some(place) = protected.iter().position(|range| range == frames) {
        protected.swap_remove(place);
    }
}

/// Whether domain 0 may only read this frame.
pub fn is_protected(frame: Mfn) -> bool {
    PROTECTED.lock().iter().any(|range| range.contains(&frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_two_tables_stays_protected_until_both_are_gone() {
        let (one, two) = (
            Mfn(0x77_0000)..=Mfn(0x77_0001),
            Mfn(0x77_0001)..=Mfn(0x77_0001),
        );
        protect(one.clone()).unwrap();
        protect(two.clone()).unwrap();
        assert!(is_protected(Mfn(0x77_0000)) && !is_protected(Mfn(0x77_0002)));
        release(&one);
        assert!(!is_protected(Mfn(0x77_0000)) && is_protected(Mfn(0x77_0001)));
        release(&two);
        release(&two);
        assert!(!is_protected(Mfn(0x77_0001)));
    }
}
