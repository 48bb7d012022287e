//! Entries that map grants of another domain, and the emulation of a guest's own store into an L1 table.
//!
//! The entry of a grant mapping holds references to the frame, like every entry; the grant's handle holds its
//! own. So a guest that overwrites such an entry harms only itself.

use crate::kit::atomic::{AtomicU64, Ordering};

use guest_pv_abi::Width;

use super::entry::exchange;
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

    /// Replaces entry `old` of an L1 of `owner` by `new`, for an instruction of the guest that stores there. Returns the
    /// entry that was found; if it is not `old`, nothing was stored.
    #[inline(always)] // has one caller
    pub fn exchange_l1_entry(
        &self,
        owner: DomId,
        at: EntryAt,
        old: Pte,
        new: Pte,
    ) -> Result<Pte, Refused> {
        let table = self.hold(at.table, owner).ok_or(Refused::Invalid)?;
        let width = table.width();
        let found = match table.l1_slot(width, at.index) {
            Some(slot) => self.exchange_slot(Shape::l1(width), owner, slot, old, new),
            None => Err(Refused::Invalid),
        };
        // Work can be left only by a table of a higher level. The destruction of the domain finds it then.
        self.put_held(table, &mut Work::new());
        found
    }

    /// The same for the entry itself. The references of `new` are taken before it can be in the table, and those of `old`
    /// dropped after it has left. An entry that was changed and changed back meanwhile has references of its own again.
    #[inline(always)] // part of the above
    fn exchange_slot(
        &self,
        shape: Shape,
        owner: DomId,
        slot: &AtomicU64,
        old: Pte,
        new: Pte,
    ) -> Result<Pte, Refused> {
        let light = old.is_present() && new.is_present() && old.differs_lightly(new);
        let stored = if light || self.take_usual(new, owner).is_some() {
            shape.stored(new)
        } else {
            self.get_l1(shape, new, owner, owner)?
        };
        let exchanged = slot.compare_exchange(old.0, stored.0, Ordering::AcqRel, Ordering::Relaxed);
        match exchanged {
            _ if light => {}
            Ok(_) => self.put_l1(old),
            Err(_) => self.put_l1(stored),
        }
        Ok(exchanged.map_or_else(Pte, |_| old))
    }
}
