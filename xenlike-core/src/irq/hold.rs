//! Who handles an interrupt: binding, letting go, the end of one, and the CPU it goes to.

use super::line::Holder;
use super::{Book, IrqError, Machine};
use crate::kit::{CpuId, DomId};

/// Whether a holder has to tell when it is done with an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has: the line is masked till then.
    Wanted,
    /// It need not.
    Free,
}

impl<M: Machine> Book<M> {
    /// `holder` handles the interrupt from now on, on `cpu` if nobody else has it.
    ///
    /// # Errors
    /// [`IrqError::BadNumber`] if its number stands for nothing, [`IrqError::Exists`] if it does already,
    /// [`IrqError::Busy`] if another holder or this one won't share, or the line has too many.
    pub fn hold(&mut self, holder: Holder, cpu: CpuId) -> Result<End, IrqError> {
        let vector = self.vector_of(holder.dom, holder.pirq)?;
        let (line, machine) = self.line(vector).ok_or(IrqError::BadNumber)?;
        let same = |other: &Holder| (other.dom, other.pirq) == (holder.dom, holder.pirq);
        if line.holders.iter().any(same) {
            return Err(IrqError::Exists);
        }
        let first = line.holders.is_empty();
        let all_share = holder.shares && line.holders.iter().all(|other| other.shares);
        if !(first || all_share) {
            return Err(IrqError::Busy);
        }
        line.holders.try_push(holder).map_err(|_| IrqError::Busy)?;
        if first {
            line.cpu = cpu;
            line.program(machine);
            line.forgive(machine);
        }
        Ok(if line.is_level() {
            End::Wanted
        } else {
            End::Free
        })
    }

    /// `dom` no longer handles `pirq`.
    ///
    /// # Errors
    /// [`IrqError::BadNumber`] if it did not.
    pub fn let_go(&mut self, dom: DomId, pirq: u32) -> Result<(), IrqError> {
        let vector = self.vector_of(dom, pirq)?;
        let (line, machine) = self.line(vector).ok_or(IrqError::BadNumber)?;
        let before = line.holders.len();
        line.holders
            .retain(|holder| (holder.dom, holder.pirq) != (dom, pirq));
        if line.holders.len() == before {
            return Err(IrqError::BadNumber);
        }
        line.set_gate(machine);
        Ok(())
    }

    /// `dom` is done with `pirq`; the line may ask again when all are. One that it was not told of
    /// needs no end.
    ///
    /// # Errors
    /// [`IrqError::BadNumber`] if the number stands for nothing.
    pub fn end(&mut self, dom: DomId, pirq: u32) -> Result<(), IrqError> {
        let vector = self.vector_of(dom, pirq)?;
        let (line, machine) = self.line(vector).ok_or(IrqError::BadNumber)?;
        let owes =
            |holder: &&mut Holder| (holder.dom, holder.pirq) == (dom, pirq) && holder.owes_end;
        if let Some(holder) = line.holders.iter_mut().find(owes) {
            holder.owes_end = false;
            line.set_gate(machine);
        }
        Ok(())
    }

    /// What a holder of `pirq` of `dom` has to do: whether to end each, and whether others share it.
    ///
    /// # Errors
    /// [`IrqError::BadNumber`] if the number stands for nothing.
    pub fn duties(&mut self, dom: DomId, pirq: u32) -> Result<(End, Sharing), IrqError> {
        let vector = self.vector_of(dom, pirq)?;
        let (line, _) = self.line(vector).ok_or(IrqError::BadNumber)?;
        let end = if line.is_level() {
            End::Wanted
        } else {
            End::Free
        };
        let sharing = if line.holders.len() > 1 {
            Sharing::Shared
        } else {
            Sharing::Alone
        };
        Ok((end, sharing))
    }

    /// Sends `pirq` of `dom` to `cpu` from now on.
    pub fn move_to(&mut self, dom: DomId, pirq: u32, cpu: CpuId) {
        let Ok(vector) = self.vector_of(dom, pirq) else {
            return;
        };
        if let Some((line, machine)) = self.line(vector)
            && line.cpu != cpu
        {
            line.cpu = cpu;
            line.program(machine);
        }
    }
}

/// Whether a line has several holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One or none.
    Alone,
    /// Several.
    Shared,
}
