//! The references of an entry of an L2, L3 or L4: a reference and a type reference to the next table. An entry
//! may also be *linear*: it names a table of its own level, so that the guest can read its page tables through
//! one window (see [`super::linear`]).

use super::shape::Shape;
use super::{EntryAt, Memory, Progress, Pte, Refused, Types, Work};
use crate::kit::{DomId, Mfn};

impl<M: Memory> Types<M> {
    /// Takes the references of the entry `at`, in a table of this shape.
    pub(super) fn get_upper(
        &self,
        shape: Shape,
        at: EntryAt,
        owner: DomId,
        pte: Pte,
        work: &mut Work,
    ) -> Result<(), Refused> {
        if !shape.upper_flags_ok(pte) {
            return Err(Refused::Invalid);
        }
        if pte.mfn() == at.table {
            return self.get_linear(shape, at.table, owner, pte);
        }
        let ty = shape.lower(at.index).ok_or(Refused::Invalid)?;
        match self.get_page_and_type(pte.mfn(), owner, ty, work) {
            Err(Refused::Invalid) if self.is_table(pte.mfn(), shape.level()) => {
                self.get_linear(shape, at.table, owner, pte)
            }
            other => other,
        }
    }

    /// Drops the references of a stored entry of `table`, which is of level `level`.
    pub(super) fn put_upper(&self, level: u32, table: Mfn, pte: Pte, work: &mut Work) -> Progress {
        if !pte.is_present() || pte.mfn() == table {
            return Progress::Done;
        }
        #[cfg(feature = "audit")]
        if let Some(frame) = self.0.entry(pte.mfn()) {
            let sort = crate::mm::stale::audit::Sort::Table;
            self.0.note_unmapped(pte.mfn(), frame, sort);
        }
        if self.is_table(pte.mfn(), level) {
            self.unlink_linear(table, pte.mfn());
        }
        self.put_page_and_type(pte.mfn(), work)
    }

    /// Whether a frame is, or was last, a table of `level`. The answer is stable only for a caller that holds
    /// a type reference.
    pub(super) fn is_table(&self, mfn: Mfn, level: u32) -> bool {
        self.0
            .frame(mfn)
            .is_some_and(|f| Shape::of(f.load()).level() == level)
    }
}
