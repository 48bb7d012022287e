//! Changes of a single entry of a table, as by mmu_update and update_va_mapping.
//!
//! They take no lock. The references of the new entry are taken first. Then the words are exchanged,
//! and the CPU that got an old word drops the references of that word. A type reference to the table
//! keeps it validated meanwhile.

use crate::kit::atomic::{AtomicU64, Ordering};

use guest_pv_abi::Width;

use super::shape::Shape;
use super::{EntryAt, Memory, Pte, Refused, Types, Work};
use crate::kit::{DomId, Mfn};
use crate::mm::Frame;

/// How often an update is tried while other CPUs keep changing the entry.
pub(super) const MAX_TRIES: usize = 16;

/// Which bits of the old entry are preserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// No bits of the old entry.
    Nothing,
    /// The accessed and dirty bits (MMU_PT_UPDATE_PRESERVE_AD).
    AccessedDirty,
}

/// A change of one entry.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// The frame of the table.
    pub table: Mfn,
    /// The index of the entry in the table, below 512.
    pub index: usize,
    /// The entry that the guest wants.
    pub new: Pte,
    /// Which bits of the old entry are preserved.
    pub keep: Keep,
    /// The owner of the frames that an L1 entry may name: the table's owner, another domain,
    /// [`DomId::IO`] or [`DomId::XEN`].
    pub page_owner: DomId,
}

/// A validated page table with its references, for one change or for several.
#[derive(Debug)]
#[must_use = "it is given back by Types::put_held"]
pub struct HeldTable<'a> {
    mfn: Mfn,
    frame: &'a Frame,
    shape: Shape,
    owner: DomId,
    words: &'a [AtomicU64; 512],
}

impl HeldTable<'_> {
    /// Whether this is table `mfn` of `owner`.
    #[inline]
    pub fn is(&self, mfn: Mfn, owner: DomId) -> bool {
        self.mfn == mfn && self.owner == owner
    }

    /// Returns an entry of the table, if the table is an L1 of a domain of this width.
    #[inline(always)] // the width is a constant for most callers
    pub(super) fn l1_slot(&self, width: Width, index: usize) -> Option<&AtomicU64> {
        let slot = self.words.get(index);
        slot.filter(|_| self.shape == Shape::l1(width))
    }

    /// Returns the width of the table's owner.
    pub(super) const fn width(&self) -> Width {
        self.shape.width()
    }
}

impl<M: Memory> Types<M> {
    /// Changes an entry of `update.table`, which must be an L1 of `owner`, a domain of this width.
    #[inline(always)] // the width is a constant for the caller
    pub fn update_l1_entry(
        &self,
        width: Width,
        owner: DomId,
        update: &Update,
        work: &mut Work,
    ) -> Result<(), Refused> {
        let table = self.hold(update.table, owner).ok_or(Refused::Invalid)?;
        let done = match table.l1_slot(width, update.index) {
            Some(slot) => self.update_l1(Shape::l1(width), slot, owner, update),
            None => Err(Refused::Invalid),
        };
        self.put_held(table, work);
        done
    }

    /// Like [`Self::update_l1_entry`], but only if the present entry is `expected`; otherwise fails as
    /// invalid. The entry that was checked is the one that is replaced, so of two CPUs that request the same
    /// change one fails.
    #[inline(always)] // on the path of every grant that is unmapped
    pub(super) fn update_l1_entry_if(
        &self,
        width: Width,
        owner: DomId,
        update: &Update,
        work: &mut Work,
        expected: impl Fn(Pte) -> bool,
    ) -> Result<(), Refused> {
        let table = self.hold(update.table, owner).ok_or(Refused::Invalid)?;
        let done = match table.l1_slot(width, update.index) {
            Some(slot) => self.update_l1_if(Shape::l1(width), slot, owner, update, expected),
            None => Err(Refused::Invalid),
        };
        self.put_held(table, work);
        done
    }

    #[inline(always)] // on the path of every grant that is unmapped
    fn update_l1_if(
        &self,
        shape: Shape,
        slot: &AtomicU64,
        owner: DomId,
        update: &Update,
        expected: impl Fn(Pte) -> bool,
    ) -> Result<(), Refused> {
        let stored = match update.new.0 {
            0 => update.new,
            _ => self.get_l1(shape, update.new, owner, update.page_owner)?,
        };
        match exchange_if(slot, stored, expected) {
            Ok(old) => {
                self.put_l1(old);
                Ok(())
            }
            Err(why) => {
                self.put_l1(stored);
                Err(why)
            }
        }
    }

    /// Takes references to `mfn`, if it is a validated page table of `owner`.
    #[inline(always)] // on the path of every entry
    pub fn hold(&self, mfn: Mfn, owner: DomId) -> Option<HeldTable<'_>> {
        let frame = self.0.entry(mfn)?;
        let seen = self.take_table(mfn, frame, owner)?;
        let Some(words) = self.0.words_of(mfn, seen) else {
            self.put_table(mfn, frame, &mut Work::new());
            return None;
        };
        Some(HeldTable {
            mfn,
            frame,
            shape: Shape::of(seen),
            owner,
            words,
        })
    }

    /// Drops the references to a table. The guest may have unpinned it meanwhile on another vCPU. `work`
    /// records what is left to do then.
    #[inline(always)] // on the path of every entry
    pub fn put_held(&self, table: HeldTable<'_>, work: &mut Work) {
        self.put_table(table.mfn, table.frame, work);
    }

    /// Writes an entry into a frame of `owner` that is not a page table.
    #[inline(never)]
    pub fn write_plainly(&self, owner: DomId, update: &Update) -> Result<(), Refused> {
        let _writable = self
            .get_writable(update.table, owner)
            .ok_or(Refused::Invalid)?;
        let words = self.0.words(update.table).ok_or(Refused::Invalid)?;
        exchange(
            words.get(update.index).ok_or(Refused::Invalid)?,
            update.new,
            update.keep,
        );
        Ok(())
    }

    /// Changes an entry of a held table.
    #[inline]
    pub fn update_held(
        &self,
        table: &HeldTable<'_>,
        update: &Update,
        work: &mut Work,
    ) -> Result<(), Refused> {
        let slot = table.words.get(update.index).ok_or(Refused::Invalid)?;
        if table.shape == Shape::WIDE_L1 {
            self.update_l1(Shape::WIDE_L1, slot, table.owner, update)
        } else if table.shape.is_l1() {
            self.update_narrow_l1(slot, table.owner, update)
        } else {
            self.update_upper(table.shape, slot, table.owner, update, work)
        }
    }

    /// Like [`Self::update_l1`], out of line, so that the path of wide domains has constant flags.
    #[inline(never)]
    fn update_narrow_l1(
        &self,
        slot: &AtomicU64,
        owner: DomId,
        update: &Update,
    ) -> Result<(), Refused> {
        self.update_l1(Shape::NARROW_L1, slot, owner, update)
    }

    #[inline(always)] // on the path of every entry
    fn update_l1(
        &self,
        shape: Shape,
        slot: &AtomicU64,
        owner: DomId,
        update: &Update,
    ) -> Result<(), Refused> {
        if update_lightly(shape, slot, update) {
            return Ok(());
        }
        let new = update.new;
        if new.0 == 0 {
            self.put_l1(exchange(slot, new, update.keep));
            return Ok(());
        }
        let Some(frame) = self.take_usual(new, update.page_owner) else {
            return self.update_l1_thoroughly(shape, slot, owner, update);
        };
        let old = exchange(slot, shape.stored(new), update.keep);
        if old.is_present() && old.mfn() == new.mfn() {
            self.put_mapping(old, frame);
        } else {
            self.put_l1(old);
        }
        Ok(())
    }

    /// Like [`Self::update_l1`], for I/O memory, choices of caching, entries that are not present, and entries
    /// to be refused.
    #[inline(never)]
    fn update_l1_thoroughly(
        &self,
        shape: Shape,
        slot: &AtomicU64,
        owner: DomId,
        update: &Update,
    ) -> Result<(), Refused> {
        let stored = self.get_l1(shape, update.new, owner, update.page_owner)?;
        self.put_l1(exchange(slot, stored, update.keep));
        Ok(())
    }

    #[inline(never)] // rare compared to L1 entries
    fn update_upper(
        &self,
        shape: Shape,
        slot: &AtomicU64,
        owner: DomId,
        update: &Update,
        work: &mut Work,
    ) -> Result<(), Refused> {
        if !shape.may_change(update.index) || update.page_owner != owner {
            return Err(Refused::Invalid);
        }
        let at = EntryAt {
            table: update.table,
            index: update.index,
        };
        if update.new.is_present() {
            if shape.upper_flags_ok(update.new) && update_lightly(shape, slot, update) {
                return Ok(());
            }
            self.get_upper(shape, at, owner, update.new, work)?;
        } else {
            self.check_absent(shape.level(), owner, update.new)?;
        }
        let old = exchange(slot, shape.stored(update.new), update.keep);
        // Work that is left, if any, is in `work`. The change of this entry is complete.
        let _ = self.put_upper(shape.level(), update.table, old, work);
        Ok(())
    }
}

/// Changes an entry if none of its references change. False if they do, or if another CPU has
/// changed the entry.
#[inline]
fn update_lightly(shape: Shape, slot: &AtomicU64, update: &Update) -> bool {
    let old = Pte(slot.load(Ordering::Relaxed));
    if !(old.is_present() && update.new.is_present() && old.differs_lightly(update.new)) {
        return false;
    }
    let kept = kept(old, update.keep);
    slot.compare_exchange(
        old.0,
        shape.stored(update.new).0 | kept,
        Ordering::AcqRel,
        Ordering::Relaxed,
    )
    .is_ok()
}

fn kept(old: Pte, keep: Keep) -> u64 {
    match keep {
        Keep::Nothing => 0,
        Keep::AccessedDirty => old.0 & Pte::MACHINE_SET,
    }
}

/// Stores an entry, and returns the old one.
pub(super) fn exchange(slot: &AtomicU64, new: Pte, keep: Keep) -> Pte {
    if keep == Keep::Nothing {
        return Pte(slot.swap(new.0, Ordering::AcqRel));
    }
    let mut old = Pte(slot.load(Ordering::Relaxed));
    loop {
        let word = new.0 | kept(old, keep);
        match slot.compare_exchange_weak(old.0, word, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return old,
            Err(now) => old = Pte(now),
        }
    }
}

/// Like [`exchange`], as long as the present entry is `expected`. The CPU and the guest may set other bits of
/// the entry at the same time. A guest that does so all the time gets [`Refused::Busy`].
fn exchange_if(slot: &AtomicU64, new: Pte, expected: impl Fn(Pte) -> bool) -> Result<Pte, Refused> {
    let mut old = Pte(slot.load(Ordering::Relaxed));
    for _ in 0..MAX_TRIES {
        if !expected(old) {
            return Err(Refused::Invalid);
        }
        match slot.compare_exchange_weak(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Ok(old),
            Err(now) => old = Pte(now),
        }
    }
    Err(Refused::Busy)
}
