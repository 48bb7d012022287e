//! Entries that map grants of another domain, and the emulation of a guest's own store into an L1 table.
//!
//! The entry of a grant mapping holds references to the frame, like every entry; the grant's handle holds its
//! own. So a guest that overwrites such an entry harms only itself.

use crate::kit::atomic::Ordering;

use guest_pv_abi::Width;

use super::entry::{MAX_TRIES, exchange};
use super::shape::Shape;
use super::{Keep, Memory, Pte, Refused, Types, Update, Work};
use crate::kit::{DomId, Maddr, Mfn};

/// The location of an L1 entry. It is unchecked until references to the table are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryAt {
    /// The frame of the table.
    pub table: Mfn,
    /// The index of the entry in the table.
    pub index: usize,
}

impl EntryAt {
    /// The entry at a machine address, as guests name it (GNTMAP_contains_pte). `None` if the
    /// address is misaligned.
    pub const fn machine(at: Maddr) -> Option<Self> {
        if at.0.is_multiple_of(8) {
            let (table, index) = (at.mfn(), at.offset() / 8);
            Some(Self { table, index })
        } else {
            None
        }
    }

    /// Makes the update that replaces the entry by `new`, which may name a frame of `page_owner`.
    const fn change(self, new: Pte, page_owner: DomId) -> Update {
        Update {
            table: self.table,
            index: self.index,
            new,
            keep: Keep::Nothing,
            page_owner,
        }
    }
}

/// A granted frame, and how it is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lent {
    /// The frame is mapped read-only.
    ToRead(Mfn),
    /// The frame is mapped writable.
    ToWrite(Mfn),
}

impl Lent {
    /// Whether `entry` is such a mapping. A mapping of the other kind belongs to another grant of the
    /// same frame. If it were removed instead of this one, the granter would believe that the other grant
    /// is no longer used.
    fn is_mapped_by(self, entry: Pte) -> bool {
        let is = match self {
            Self::ToRead(frame) => (frame, false),
            Self::ToWrite(frame) => (frame, true),
        };
        entry.is_present() && (entry.mfn(), entry.is_writable()) == is
    }
}

/// A store into an L1 table by a guest's instruction.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// The frame of the table.
    pub table: Mfn,
    /// The offset of the store in the table, in bytes.
    pub offset: usize,
    /// The width of the store in bytes: 1, 2, 4 or 8.
    pub bytes: usize,
    /// The new value, in the low bytes.
    pub value: u64,
    /// The value that must be present for the store to take place (cmpxchg), in the low bytes.
    pub expected: Option<u64>,
}

impl Write {
    /// Returns the shift of the stored bytes in their word, and a mask of their width. `None` if they are not
    /// within one word.
    fn place(&self) -> Option<(u32, u64)> {
        let ones = match self.bytes {
            1 => 0xff,
            2 => 0xffff,
            4 => 0xffff_ffff,
            8 => u64::MAX,
            _ => return None,
        };
        let shift = (self.offset as u32 & 7) << 3;
        (ones << shift >> shift == ones).then_some((shift, ones))
    }
}

impl<M: Memory> Types<M> {
    /// Maps a granted frame at an entry of an L1 of `owner`, a domain of this width. The caller holds the references of a mapping by
    /// `pte` ([`Self::take_writable_twice`]), which pass to the entry. On failure, the caller keeps them.
    #[inline(always)] // the width is a constant for the caller
    pub fn map_grant(
        &self,
        width: Width,
        owner: DomId,
        at: EntryAt,
        pte: Pte,
        work: &mut Work,
    ) -> Result<(), Refused> {
        debug_assert!(pte.is_usual(), "{pte:?}");
        let table = self.hold(at.table, owner).ok_or(Refused::Invalid)?;
        let done = match table.l1_slot(width, at.index) {
            Some(slot) => {
                let stored = Shape::l1(width).stored(pte);
                self.put_l1(exchange(slot, stored, Keep::Nothing));
                Ok(())
            }
            None => Err(Refused::Invalid),
        };
        self.put_held(table, work);
        done
    }

    /// Removes an entry of an L1 of `owner` that maps what was `lent`, or replaces it by `new`. Fails as
    /// invalid if the entry is not such a mapping. If `new` is present, it names a frame of `owner`.
    #[inline(always)] // the width is a constant for the caller
    pub fn unmap_grant(
        &self,
        width: Width,
        owner: DomId,
        at: EntryAt,
        lent: Lent,
        new: Pte,
        work: &mut Work,
    ) -> Result<(), Refused> {
        let update = at.change(new, owner);
        self.update_l1_entry_if(width, owner, &update, work, |old| lent.is_mapped_by(old))
    }

    /// Moves the entry `from` to `at`, which maps what was `lent`, and clears `from`
    /// (GNTTABOP_unmap_and_replace).
    pub fn replace_grant(
        &self,
        width: Width,
        owner: DomId,
        at: EntryAt,
        lent: Lent,
        from: EntryAt,
        work: &mut Work,
    ) -> Result<(), Refused> {
        let new = self.read_entry(from.table, from.index);
        let new = new.ok_or(Refused::Invalid)?;
        self.unmap_grant(width, owner, at, lent, new, work)?;
        // The mapping is gone, so this call can't fail any more. If another vCPU has changed the entry `from`
        // meanwhile, that entry stays.
        let moved = |old: Pte| !old.is_present() || old.differs_lightly(new);
        let _ = self.update_l1_entry_if(width, owner, &from.change(Pte(0), owner), work, moved);
        Ok(())
    }

    /// Emulates a guest's store into one of its own L1 tables, as an update of the entry. Returns the old
    /// bytes; if they differ from `expected`, nothing was stored. [`Refused::Invalid`] means that the guest
    /// must get the fault.
    #[inline(always)] // one instance for the usual store
    pub fn emulate_write(&self, owner: DomId, write: &Write) -> Result<u64, Refused> {
        let (shift, ones) = write.place().ok_or(Refused::Invalid)?;
        let table = self.hold(write.table, owner).ok_or(Refused::Invalid)?;
        let width = table.width();
        let result = match table.l1_slot(width, write.offset / 8) {
            Some(slot) => self.write_l1_slot(Shape::l1(width), owner, slot, |old| {
                let was = old >> shift & ones;
                let differs = write.expected.is_some_and(|e| e & ones != was);
                let new = old & !(ones << shift) | (write.value & ones) << shift;
                (was, (!differs).then_some(new))
            }),
            None => Err(Refused::Invalid),
        };
        // Work can be left only by a table of a higher level. The destruction of the domain finds it then.
        self.put_held(table, &mut Work::new());
        result
    }

    /// Replaces an entry by what `change` returns, if anything. Returns the first result of `change`.
    fn write_l1_slot(
        &self,
        shape: Shape,
        owner: DomId,
        slot: &crate::kit::atomic::AtomicU64,
        change: impl Fn(u64) -> (u64, Option<u64>),
    ) -> Result<u64, Refused> {
        for _ in 0..MAX_TRIES {
            let old = slot.load(Ordering::Acquire);
            let (told, Some(new)) = change(old) else {
                return Ok(change(old).0);
            };
            let (old_pte, new_pte) = (Pte(old), Pte(new));
            let light =
                old_pte.is_present() && new_pte.is_present() && old_pte.differs_lightly(new_pte);
            let stored = if light || self.take_usual(new_pte, owner).is_some() {
                shape.stored(new_pte)
            } else {
                self.get_l1(shape, new_pte, owner, owner)?
            };
            match slot.compare_exchange(old, stored.0, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if light => return Ok(told),
                Ok(_) => {
                    self.put_l1(old_pte);
                    return Ok(told);
                }
                Err(_) if light => {}
                Err(_) => self.put_l1(stored),
            }
        }
        Err(Refused::Busy)
    }
}
