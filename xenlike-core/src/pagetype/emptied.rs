//! The dying domains whose last frame is gone. The CPU that notices notes the domain here, and `life` removes it when that
//! CPU leaves ring 0. Several can be noted at a time, as one hypercall may give back frames of several domains.

use crate::arch::work;
use crate::kit::DomId;
use crate::kit::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

/// The ids of noted domains plus 1; 0 in a free slot.
static NOTED: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];
/// Whether domains were left out because no slot was free.
static ARE_LEFT_OUT: AtomicBool = AtomicBool::new(false);

/// Which domains may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emptied {
    /// This one.
    One(DomId),
    /// Any of those that are dying.
    Any,
}

/// Notes a domain. It is empty already, so whoever takes the note afterwards finds it so.
pub(super) fn note(id: DomId) {
    let noted = u32::from(id.0).wrapping_add(1);
    let is_noted = |slot: &AtomicU32| {
        let put = slot.compare_exchange(0, noted, SeqCst, SeqCst);
        put.is_ok() || put == Err(noted)
    };
    if !NOTED.iter().any(is_noted) {
        ARE_LEFT_OUT.store(true, SeqCst);
    }
    work::raise_here(work::LIFE);
}

/// Takes all notes.
pub fn take(mut each: impl FnMut(Emptied)) {
    for slot in &NOTED {
        if let Some(id) = slot.swap(0, SeqCst).checked_sub(1) {
            each(Emptied::One(DomId(id as u16)));
        }
    }
    if ARE_LEFT_OUT.swap(false, SeqCst) {
        each(Emptied::Any);
    }
}
