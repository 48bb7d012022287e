//! Walks the free lists, for the audit of test builds.

use alloc::format;
use alloc::string::String;

use super::{BUDDIES, Buddies, DIRTY, FREE, MAX_ORDER, ORDERS, Ordering, ZONES, linked, zone_of};
use crate::kit::Mfn;
use crate::mm::frame::{Kind, State};

/// A fault and the frame where it was found. Formatted only after the lock is released, because
/// formatting allocates memory.
type Fault = (&'static str, Mfn);

/// The frames that were found on the lists.
#[derive(Default)]
struct Met {
    free: u64,
    dirty: u64,
}

/// Walks all lists. Calls `met` with each free frame, once for each block that contains it. Returns the
/// number of frames.
///
/// # Errors
/// If a list is broken, or if the counts are wrong.
pub fn check(met: &mut dyn FnMut(Mfn)) -> Result<u64, String> {
    let walked = BUDDIES.lock().walk(met);
    let found = walked
        .map_err(|(what, mfn)| format!("frame {:#x}, on a list of free frames: {what}", mfn.0))?;
    for (what, counted, noted) in [
        ("free", found.free, FREE.load(Ordering::Relaxed)),
        ("dirty", found.dirty, DIRTY.load(Ordering::Relaxed)),
    ] {
        if counted != noted {
            return Err(format!(
                "{counted} {what} frames on the lists, {noted} noted"
            ));
        }
    }
    Ok(found.free)
}

impl Buddies {
    fn walk(&self, met: &mut dyn FnMut(Mfn)) -> Result<Met, Fault> {
        let mut all = Met::default();
        for zone in 0..ZONES {
            for order in 0..ORDERS {
                let head = self.heads[zone][order];
                let is_filled = self.filled[zone] >> order & 1 != 0;
                if is_filled != (head != 0) || self.zones >> zone & 1 == 0 && head != 0 {
                    return Err((
                        "the note of lists that are not empty is wrong",
                        Mfn(head.into()),
                    ));
                }
                walk_list(zone, order as u32, head, &mut all, met)?;
            }
        }
        let mut at = self.loose.head();
        while at != 0 {
            let mfn = Mfn(at.into());
            block(mfn, 0, State(0), &mut all, met)?;
            at = linked(at).map_or(0, |frame| frame.next.load(Ordering::Relaxed));
        }
        Ok(all)
    }
}

fn walk_list(
    zone: usize,
    order: u32,
    head: u32,
    all: &mut Met,
    met: &mut dyn FnMut(Mfn),
) -> Result<(), Fault> {
    let (mut at, mut before) = (head, 0);
    while at != 0 {
        let mfn = Mfn(at.into());
        let frame = linked(at).ok_or(("no RAM", mfn))?;
        if frame.prev.load(Ordering::Relaxed) != before {
            return Err(("its link back is wrong", mfn));
        }
        if frame.order() != order || zone_of(mfn) != zone || order > MAX_ORDER {
            return Err(("a block on another's list", mfn));
        }
        block(mfn, order, State(State::HEAD), all, met)?;
        (before, at) = (at, frame.next.load(Ordering::Relaxed));
    }
    Ok(())
}

/// Checks that all frames of a block are free, and that only the first one is the head of a block.
fn block(
    first: Mfn,
    order: u32,
    head: State,
    all: &mut Met,
    met: &mut dyn FnMut(Mfn),
) -> Result<(), Fault> {
    let mut wanted = head.0;
    for mfn in (0..1u64 << order).map(|n| first.add(n)) {
        let frame = linked(mfn.0 as u32).ok_or(("no RAM", mfn))?;
        let state = frame.load();
        if state.kind() != Kind::Free || state.0 & State::HEAD != wanted {
            return Err(("not free, or the head of a block", mfn));
        }
        wanted = 0;
        all.free += 1;
        all.dirty += u64::from(state.has(State::DIRTY));
        if all.free > FREE.load(Ordering::Relaxed) {
            return Err(("more than there are free", mfn));
        }
        met(mfn);
    }
    Ok(())
}
