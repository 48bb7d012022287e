//! MSI-X tables in use. Only the core writes to their pages.
//!
//! As on Xen, a table is in use from its first mapped message, or from the time that domain 0 readies it for another
//! domain, until neither holds any more.

use core::ops::RangeInclusive;

use super::line::{Line, Source};
use super::message::Layout;
use super::{Book, Function, IrqError, Machine};
use crate::kit::Mfn;

/// Why a table is in use: because messages are mapped, or because domain 0 readied it before that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Messages,
    Readied,
}

/// The MSI-X table of a function, in use.
#[derive(Debug)]
pub struct Table {
    function: Function,
    usage: Use,
    entries: RangeInclusive<Mfn>,
    pending: Option<RangeInclusive<Mfn>>,
}

impl Table {
    fn release(&self, machine: &mut impl Machine) {
        for pages in [Some(&self.entries), self.pending.as_ref()]
            .into_iter()
            .flatten()
        {
            machine.release(pages);
        }
    }
}

impl<M: Machine> Book<M> {
    /// Readies the table of `function`, whose messages another domain will map.
    ///
    /// # Errors
    /// [`IrqError::NoDevice`] if the function was not announced or has no MSI-X, [`IrqError::NoMemoryAccess`] if its
    /// memory decoding is off, [`IrqError::Busy`] if the table is in use.
    pub fn ready_table(&mut self, function: Function) -> Result<(), IrqError> {
        self.require(function)?;
        let layout = Layout::find(&mut self.machine, function)?;
        if self.table(function).is_some() {
            return Err(IrqError::Busy);
        }
        self.add_table(function, &layout, Use::Readied)
    }

    /// Undoes [`Book::ready_table`] for `function`.
    ///
    /// # Errors
    /// [`IrqError::NoDevice`] as for that, [`IrqError::Busy`] if the table was not readied or has mapped messages.
    pub fn release_table(&mut self, function: Function) -> Result<(), IrqError> {
        self.require(function)?;
        if !super::message::has_msix(&mut self.machine, function) {
            return Err(IrqError::NoDevice);
        }
        let readied = self
            .table(function)
            .is_some_and(|table| table.usage == Use::Readied);
        if !readied || self.lines.iter().any(|line| is_entry_of(line, function)) {
            return Err(IrqError::Busy);
        }
        self.forget_table(function);
        Ok(())
    }

    /// Marks the table of `function` as in use, if it isn't.
    pub(super) fn use_table(
        &mut self,
        function: Function,
        layout: &Layout,
    ) -> Result<(), IrqError> {
        match self.table(function) {
            Some(_) => Ok(()),
            None => self.add_table(function, layout, Use::Messages),
        }
    }

    fn table(&self, function: Function) -> Option<&Table> {
        self.tables.iter().find(|table| table.function == function)
    }

    fn add_table(
        &mut self,
        function: Function,
        layout: &Layout,
        usage: Use,
    ) -> Result<(), IrqError> {
        self.tables.try_reserve(1).map_err(|_| IrqError::NoMemory)?;
        let (entries, pending) = (layout.entry_pages(), layout.pending_pages());
        self.machine.protect(entries.clone())?;
        if let Some(pages) = &pending
            && let Err(error) = self.machine.protect(pages.clone())
        {
            self.machine.release(&entries);
            return Err(error);
        }
        self.tables.push(Table {
            function,
            usage,
            entries,
            pending,
        });
        Ok(())
    }

    /// Marks the table of `function` as not in use, unless it was readied or has mapped messages.
    pub(super) fn settle_table(&mut self, function: Function) {
        let readied = self
            .table(function)
            .is_some_and(|table| table.usage == Use::Readied);
        if !readied && !self.lines.iter().any(|line| is_entry_of(line, function)) {
            self.forget_table(function);
        }
    }

    pub(super) fn forget_table(&mut self, function: Function) {
        let machine = &mut self.machine;
        for table in self
            .tables
            .extract_if(.., |table| table.function == function)
        {
            table.release(machine);
        }
    }
}

fn is_entry_of(line: &Line, function: Function) -> bool {
    matches!(line.source, Source::Msix(msix) if msix.function == function)
}
