//! MSI-X tables in use: their pages, which only the core writes.
//!
//! As on Xen a table is in use from its first message, or from the time that domain 0 readies it for another
//! domain, to the end of the last.

use core::ops::RangeInclusive;

use super::line::{Line, Source};
use super::message::Layout;
use super::{Book, Function, IrqError, Machine};
use crate::kit::Mfn;

/// Whether domain 0 asked for it before there was a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Messages,
    Readied,
}

/// The table of a function, in use.
#[derive(Debug)]
pub struct Table {
    function: Function,
    usage: Use,
    entries: RangeInclusive<Mfn>,
    pending: Option<RangeInclusive<Mfn>>,
}

impl Table {
    fn has(&self, page: Mfn) -> bool {
        let pending = self.pending.as_ref();
        self.entries.contains(&page) || pending.is_some_and(|pages| pages.contains(&page))
    }
}

impl<M: Machine> Book<M> {
    /// Whether `page` has entries of a table in use, or its pending bits.
    pub fn has_table_at(&self, page: Mfn) -> bool {
        self.tables.iter().any(|table| table.has(page))
    }

    /// Readies the table of `function`, whose messages another domain will map.
    ///
    /// # Errors
    /// [`IrqError::NoDevice`] if nobody told of it or without MSI-X, [`IrqError::NoMemoryAccess`],
    /// [`IrqError::Busy`] if it is in use.
    pub fn ready_table(&mut self, function: Function) -> Result<(), IrqError> {
        self.require(function)?;
        let layout = Layout::find(&mut self.machine, function)?;
        if self.table(function).is_some() {
            return Err(IrqError::Busy);
        }
        self.add_table(function, &layout, Use::Readied)
    }

    /// Takes back that it was readied.
    ///
    /// # Errors
    /// [`IrqError::NoDevice`] as before, [`IrqError::Busy`] if it was not, or has messages.
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

    /// The table of `function` is in use, if it was not.
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
        self.tables.push(Table {
            function,
            usage,
            entries: layout.entry_pages(),
            pending: layout.pending_pages(),
        });
        Ok(())
    }

    /// Unless it was readied or has messages, the table of `function` is no longer in use.
    pub(super) fn settle_table(&mut self, function: Function) {
        let lines = &self.lines;
        self.tables.retain(|table| {
            table.function != function
                || table.usage == Use::Readied
                || lines.iter().any(|line| is_entry_of(line, function))
        });
    }

    pub(super) fn forget_table(&mut self, function: Function) {
        self.tables.retain(|table| table.function != function);
    }
}

fn is_entry_of(line: &Line, function: Function) -> bool {
    matches!(line.source, Source::Msix(msix) if msix.function == function)
}
