//! Holders: which domain handles an interrupt, when it is done with one, and the CPU to which the interrupt goes.

use super::line::Holder;
use super::{Book, IrqError, Machine};
use crate::kit::{CpuId, DomId};

/// Whether a holder must say when it is done with an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It must, because the line stays masked until then.
    Wanted,
    /// It need not, because the line is not masked.
    Free,
}

impl<M: Machine> Book<M> {
    /// Makes `holder` handle the interrupt. If it is the first holder, the interrupt goes to `cpu`.
    ///
    /// # Errors
    /// [`IrqError::BadNumber`] if its number is not mapped, [`IrqError::Exists`] if it is a holder already,
    /// [`IrqError::Busy`] if it or another holder doesn't share, or if the line has too many holders.
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

    /// Ends that `dom` handles `pirq`. The line is masked if that was its last holder.
    ///
    /// # Errors
    /// [`IrqError::BadNumber`] if the domain did not handle it.
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

    /// Records that `dom` is done with `pirq`. When all holders are, the line is unmasked. Does nothing if the domain
    /// has no interrupt to end.
    ///
    /// # Errors
    /// [`IrqError::BadNumber`] if the number is not mapped.
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

    /// What a holder of `pirq` in `dom` must know: whether to end each interrupt, and whether the line is shared.
    ///
    /// # Errors
    /// [`IrqError::BadNumber`] if the number is not mapped.
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
    /// The line has one holder or none.
    Alone,
    /// The line has several holders.
    Shared,
}
