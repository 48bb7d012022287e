//! Entries that map what another domain has granted, and the emulation of a guest's own write to an
//! L1 table.
//!
//! A grant mapping's entry holds references of the page as every entry does; the grant itself holds
//! its own. So a guest that overwrites such an entry harms only itself.

use crate::kit::atomic::Ordering;

use super::entry::{MAX_TRIES, exchange};
use super::{Keep, Memory, Pte, Refused, Types, Update, Work};
use crate::kit::{DomId, Maddr, Mfn};

/// Where an entry of an L1 is: a claim, until the table is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryAt {
    /// The table.
    pub table: Mfn,
    /// The entry's number in it.
    pub index: usize,
}

impl EntryAt {
    /// The entry at a machine address, as guests tell it (GNTMAP_contains_pte).
    pub const fn machine(at: Maddr) -> Option<Self> {
        if at.0.is_multiple_of(8) {
            let (table, index) = (at.mfn(), at.offset() / 8);
            Some(Self { table, index })
        } else {
            None
        }
    }

    /// A change of it into `new`, which may name a frame of `page_owner`.
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

/// A frame of a grant, and what for it is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lent {
    /// Read-only.
    ToRead(Mfn),
    /// Writable.
    ToWrite(Mfn),
}

impl Lent {
    /// Whether the entry is such a mapping. One of the other sort belongs to another grant of the
    /// same frame: with it gone in this one's stead, the granter would take the other for ended.
    fn is_mapped_by(self, entry: Pte) -> bool {
        let is = match self {
            Self::ToRead(frame) => (frame, false),
            Self::ToWrite(frame) => (frame, true),
        };
        entry.is_present() && (entry.mfn(), entry.is_writable()) == is
    }
}

/// A write to an L1 table by a guest's instruction.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// The table.
    pub table: Mfn,
    /// Byte offset in it.
    pub offset: usize,
    /// Bytes written: 1, 2, 4 or 8.
    pub bytes: usize,
    /// What is written, in the low bytes.
    pub value: u64,
    /// What must be there for the write to happen (cmpxchg), in the low bytes.
    pub expected: Option<u64>,
}

impl Write {
    /// How far up in its word it is, and its bits at the word's bottom; nothing if it is not inside
    /// one word.
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
    /// Maps a granted frame at an entry of an L1 of `owner`. The caller holds what a mapping by `pte`
    /// holds ([`Self::take_writable_twice`]), which becomes the entry's. Refused, it holds it still.
    pub fn map_grant(
        &self,
        owner: DomId,
        at: EntryAt,
        pte: Pte,
        work: &mut Work,
    ) -> Result<(), Refused> {
        debug_assert!(pte.is_usual(), "{pte:?}");
        let table = self.hold(at.table, owner).ok_or(Refused::Invalid)?;
        let done = match table.l1_slot(at.index) {
            Some(slot) => {
                self.put_l1(exchange(slot, pte.stored(), Keep::Nothing));
                Ok(())
            }
            None => Err(Refused::Invalid),
        };
        self.put_held(table, work);
        done
    }

    /// Takes away, or replaces by `new`, an entry of an L1 of `owner` that maps what was `lent`. Refused
    /// as invalid if it doesn't. `new`, if present, names a frame of `owner`.
    pub fn unmap_grant(
        &self,
        owner: DomId,
        at: EntryAt,
        lent: Lent,
        new: Pte,
        work: &mut Work,
    ) -> Result<(), Refused> {
        let update = at.change(new, owner);
        self.update_l1_entry_if(owner, &update, work, |old| lent.is_mapped_by(old))
    }

    /// Moves the entry `from` to the place `at`, which maps what was `lent`
    /// (GNTTABOP_unmap_and_replace): `from` is then unmapped.
    pub fn replace_grant(
        &self,
        owner: DomId,
        at: EntryAt,
        lent: Lent,
        from: EntryAt,
        work: &mut Work,
    ) -> Result<(), Refused> {
        let new = self.read_entry(from.table, from.index);
        let new = new.ok_or(Refused::Invalid)?;
        self.unmap_grant(owner, at, lent, new, work)?;
        // The mapping has gone, so this can't fail any more: where another vCPU has changed the
        // entry `from` meanwhile, that stays as it made it.
        let moved = |old: Pte| !old.is_present() || old.differs_lightly(new);
        let _ = self.update_l1_entry_if(owner, &from.change(Pte(0), owner), work, moved);
        Ok(())
    }

    /// Does a guest's write to an L1 table of its own, as an update of that entry. Gives the old
    /// bytes; where `expected` differs from them, nothing was written. [`Refused::Invalid`]: the
    /// fault is the guest's.
    pub fn emulate_write(&self, owner: DomId, write: &Write) -> Result<u64, Refused> {
        let (shift, ones) = write.place().ok_or(Refused::Invalid)?;
        let table = self.hold(write.table, owner).ok_or(Refused::Invalid)?;
        let result = match table.l1_slot(write.offset / 8) {
            Some(slot) => self.write_l1_slot(owner, slot, |old| {
                let was = old >> shift & ones;
                let differs = write.expected.is_some_and(|e| e & ones != was);
                let new = old & !(ones << shift) | (write.value & ones) << shift;
                (was, (!differs).then_some(new))
            }),
            None => Err(Refused::Invalid),
        };
        // Something is left to do only of a higher level: then the destruction of the domain finds it.
        self.put_held(table, &mut Work::new());
        result
    }

    /// Changes an entry to what `change` makes of it, if anything. Gives what `change` tells.
    fn write_l1_slot(
        &self,
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
                new_pte.stored()
            } else {
                self.get_l1(new_pte, owner, owner)?
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
