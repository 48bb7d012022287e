//! Linear page tables: an entry names, read-only, a table of its own level. Kernels use such entries to see
//! their page tables as one array. A table that names itself holds no reference by that. A table that names
//! another one holds references as usual. But then the other table may not name a third one, and the first may
//! not be named by another: in chains and circles, tables would keep each other's types forever.

use crate::kit::atomic::{AtomicU32, Ordering};

use super::shape::Shape;
use super::{Memory, Pte, Refused, Types};
use crate::kit::{DomId, Mfn};
use crate::mm::frame::State;

/// The two roles of a table, which are counted in the frame's `linear` word. A table that names others counts
/// up; a table that is named counts down, in two's complement.
#[derive(Clone, Copy)]
enum Role {
    Names,
    IsNamed,
}

fn enter(word: &AtomicU32, role: Role) -> bool {
    word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| match role {
        Role::Names => (count as i32 >= 0).then(|| count.checked_add(1)).flatten(),
        Role::IsNamed => {
            (count as i32 <= 0 && count as i32 > i32::MIN).then(|| count.wrapping_sub(1))
        }
    })
    .is_ok()
}

fn leave(word: &AtomicU32, role: Role) {
    match role {
        Role::Names => word.fetch_sub(1, Ordering::AcqRel),
        Role::IsNamed => word.fetch_add(1, Ordering::AcqRel),
    };
}

impl<M: Memory> Types<M> {
    /// Takes the references of a linear entry of `table`, which has this shape.
    pub(super) fn get_linear(
        &self,
        shape: Shape,
        table: Mfn,
        owner: DomId,
        pte: Pte,
    ) -> Result<(), Refused> {
        if pte.is_writable() || !shape.may_be_linear() {
            return Err(Refused::Invalid);
        }
        if pte.mfn() == table {
            return Ok(());
        }
        let this = self.0.frame(table).ok_or(Refused::Invalid)?;
        let page = self.get_page(pte.mfn(), owner).ok_or(Refused::Invalid)?;
        if !enter(&page.frame().linear, Role::IsNamed) {
            return Err(Refused::Invalid);
        }
        if !enter(&this.linear, Role::Names) {
            leave(&page.frame().linear, Role::IsNamed);
            return Err(Refused::Invalid);
        }
        let mut state = page.frame().load();
        while state.has(State::VALIDATED)
            && Shape::of(state).level() == shape.level()
            && state.type_refs() > 0
            && state.can_type_ref()
        {
            match page.frame().change(state, state.plus(State::TYPE_REF)) {
                Ok(()) => {
                    page.keep();
                    return Ok(());
                }
                Err(now) => state = now,
            }
        }
        leave(&this.linear, Role::Names);
        leave(&page.frame().linear, Role::IsNamed);
        Err(Refused::Invalid)
    }

    /// Undoes the counting of a linear entry of `table` that names `other`. The caller drops
    /// the references afterwards.
    pub(super) fn unlink_linear(&self, table: Mfn, other: Mfn) {
        if let Some(frame) = self.0.frame(table) {
            leave(&frame.linear, Role::Names);
        }
        if let Some(frame) = self.0.frame(other) {
            leave(&frame.linear, Role::IsNamed);
        }
    }
}
