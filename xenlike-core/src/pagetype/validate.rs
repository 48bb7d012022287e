//! Validation of whole tables, and its reverse. Both work on a busy frame and can stop between two entries. The
//! frame's `progress` is the number of its first entries that are validated.

use crate::kit::atomic::{AtomicU64, Ordering};

use super::shape::Shape;
use super::{EntryAt, Memory, Progress, Pte, Refused, Types, Work};
use crate::kit::{DomId, Mfn};
use crate::mm::Frame;

/// The number of entries of a table.
const ENTRIES: u32 = 512;

impl<M: Memory> Types<M> {
    /// Validates the contents of a busy frame as a table, from where it stopped. On failure, the entries before
    /// the bad one stay validated, and the caller takes them apart.
    pub(super) fn validate(&self, mfn: Mfn, frame: &Frame, work: &mut Work) -> Result<(), Refused> {
        let table = self.0.words(mfn).ok_or(Refused::Invalid)?;
        let (owner, shape) = (frame.owner(), Shape::of(frame.load()));
        if shape.is_l1() {
            return self.validate_l1(shape, frame, table, owner);
        }
        let lacks = |index| {
            !Pte(table
                .get(index)
                .map_or(0, |it: &AtomicU64| it.load(Ordering::Relaxed)))
            .is_present()
        };
        if !shape.exists() || shape.required().is_some_and(lacks) {
            return Err(Refused::Invalid);
        }
        let own = shape.own_entries();
        let mut worked = false;
        for index in frame.progress.load(Ordering::Relaxed)..ENTRIES {
            frame.progress.store(index, Ordering::Relaxed);
            let slot = table.get(index as usize).ok_or(Refused::Invalid)?;
            let pte = Pte(slot.load(Ordering::Relaxed));
            if pte.0 == 0 || own.contains(&(index as usize)) {
                continue;
            }
            if !pte.is_present() {
                self.check_absent(shape.level(), owner, pte)?;
                continue;
            }
            if worked && self.0.preempt() {
                return Err(Refused::Again);
            }
            let at = EntryAt {
                table: mfn,
                index: index as usize,
            };
            self.get_upper(shape, at, owner, pte, work)?;
            store(slot, pte, shape.stored(pte));
            worked = true;
        }
        frame.progress.store(ENTRIES, Ordering::Relaxed);
        self.fill_own_slots(shape, table, owner);
        Ok(())
    }

    /// Like [`Self::validate`], for an L1, which never stops halfway.
    fn validate_l1(
        &self,
        shape: Shape,
        frame: &Frame,
        table: &[AtomicU64; 512],
        owner: DomId,
    ) -> Result<(), Refused> {
        for (index, slot) in (0..).zip(table) {
            let pte = Pte(slot.load(Ordering::Relaxed));
            if pte.0 == 0 {
                continue;
            }
            let stored = match self.take_usual(pte, owner) {
                Some(_) => Ok(shape.stored(pte)),
                None => self.get_l1_thoroughly(shape, pte, owner),
            };
            match stored {
                Ok(stored) => store(slot, pte, stored),
                Err(why) => {
                    frame.progress.store(index, Ordering::Relaxed);
                    return Err(why);
                }
            }
        }
        frame.progress.store(ENTRIES, Ordering::Relaxed);
        Ok(())
    }

    /// Like [`Self::get_l1`], out of line.
    #[inline(never)]
    fn get_l1_thoroughly(&self, shape: Shape, pte: Pte, owner: DomId) -> Result<Pte, Refused> {
        self.get_l1(shape, pte, owner, owner)
    }

    /// Takes the validated entries of a busy frame apart, from the last to the first.
    pub(super) fn devalidate(&self, mfn: Mfn, frame: &Frame, work: &mut Work) -> Progress {
        let Some(table) = self.0.words(mfn) else {
            return Progress::Done;
        };
        let shape = Shape::of(frame.load());
        let level = shape.level();
        if shape.is_l1() {
            self.devalidate_l1(frame, table);
            return Progress::Done;
        }
        let at = |index: u32| {
            let slot = table.get(index as usize);
            Pte(slot.map_or(0, |slot| slot.load(Ordering::Relaxed)))
        };
        let mut left = frame.progress.load(Ordering::Relaxed);
        if left < ENTRIES && shape.is_guest_entry(left as usize) {
            // A lower table that stopped halfway when this one did.
            if self.undo_child(mfn, level, at(left), work) == Progress::Again {
                return Progress::Again;
            }
        }
        let mut worked = false;
        while let Some(index) = left.checked_sub(1) {
            let pte = at(index);
            if !pte.is_present() || !shape.is_guest_entry(index as usize) {
                left = index;
                continue;
            }
            let wait = worked && self.0.preempt();
            if wait || (!work.has_room() && self.is_table(pte.mfn(), level)) {
                frame.progress.store(left, Ordering::Relaxed);
                return Progress::Again;
            }
            left = index;
            if self.put_upper(level, mfn, pte, work) == Progress::Again {
                frame.progress.store(left, Ordering::Relaxed);
                return Progress::Again;
            }
            worked = true;
        }
        frame.progress.store(0, Ordering::Relaxed);
        Progress::Done
    }

    /// Like [`Self::devalidate`], for an L1, which never stops halfway.
    fn devalidate_l1(&self, frame: &Frame, table: &[AtomicU64; 512]) {
        let validated = frame.progress.swap(0, Ordering::Relaxed) as usize;
        let mut told = false;
        for slot in table.iter().take(validated) {
            self.put_l1_of_many(Pte(slot.load(Ordering::Relaxed)), &mut told);
        }
        // Other domains' pages of descriptors that were mapped here are in no place of an LDT of theirs.
        if told {
            self.0.segdesc_unmapped(frame.owner());
        }
    }

    /// If `pte` names a table of the next lower level that is partial, takes that apart too. Only the next
    /// level counts, which bounds the depth. A table of the same level, named by a linear entry, never stops
    /// halfway together with this one.
    fn undo_child(&self, mfn: Mfn, level: u32, pte: Pte, work: &mut Work) -> Progress {
        let child = pte.mfn();
        let Some(frame) = self.0.frame(child).filter(|_| pte.is_present()) else {
            return Progress::Done;
        };
        let state = frame.load();
        let is_lower = Shape::of(state).level().checked_add(1) == Some(level);
        let is_child = is_lower && state.has(crate::mm::frame::State::PARTIAL);
        if is_child && self.owner_of(mfn) == Some(frame.owner()) {
            self.undo_partial(child, work)
        } else {
            Progress::Done
        }
    }

    fn owner_of(&self, mfn: Mfn) -> Option<DomId> {
        self.0.frame(mfn).map(Frame::owner)
    }

    /// Writes the hypervisor's entries of a table.
    fn fill_own_slots(&self, shape: Shape, table: &[AtomicU64; 512], owner: DomId) {
        for slot in shape.own_entries() {
            if let Some(word) = table.get(slot) {
                let entry = self.0.own_slot(owner, shape.ty(), slot);
                word.store(entry, Ordering::Relaxed);
            }
        }
    }
}

/// Stores an entry as the core requires it. No guest can write it: the frame is busy as a table, so there is
/// no writable mapping of it. But the CPU may set bits in a table that is also in use through another table,
/// hence the exchange.
#[inline]
fn store(slot: &AtomicU64, old: Pte, new: Pte) {
    let mut seen = old;
    while seen.0 != new.0 {
        let keep = seen.0 & Pte::MACHINE_SET;
        match slot.compare_exchange(seen.0, new.0 | keep, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return,
            Err(now) => seen = Pte(now),
        }
    }
}
