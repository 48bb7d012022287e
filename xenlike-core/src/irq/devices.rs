//! The PCI functions that domain 0 has announced (PHYSDEVOP_pci_device_add and its relatives).

use super::line::Source;
use super::{Book, Function, IrqError, Machine};

/// The number of functions that the first PCI segment can have.
const MAX_FUNCTIONS: usize = 1 << 16;

impl<M: Machine> Book<M> {
    /// Adds `function`. Adding a function again changes nothing.
    ///
    /// # Errors
    /// [`IrqError::NoMemory`] if the list can't grow.
    pub fn add_function(&mut self, function: Function) -> Result<(), IrqError> {
        if let Err(at) = self.functions.binary_search(&function) {
            if self.functions.len() >= MAX_FUNCTIONS {
                return Err(IrqError::NoMemory);
            }
            self.functions
                .try_reserve(1)
                .map_err(|_| IrqError::NoMemory)?;
            self.functions.insert(at, function);
        }
        Ok(())
    }

    /// Removes `function`, and unmaps all its messages.
    ///
    /// # Errors
    /// [`IrqError::NoDevice`] if the function was not announced.
    pub fn remove_function(&mut self, function: Function) -> Result<(), IrqError> {
        let at = self
            .functions
            .binary_search(&function)
            .map_err(|_| IrqError::NoDevice)?;
        self.functions.remove(at);
        while let Some(vector) = self.message_of(function) {
            let Some(map) = self.maps().iter().find(|map| map.vector == Some(vector)) else {
                break;
            };
            let (dom, pirq) = (map.dom, map.pirq);
            self.unmap(dom, pirq)?;
        }
        self.forget_table(function);
        Ok(())
    }

    fn message_of(&self, function: Function) -> Option<u8> {
        let lines = self.lines().iter();
        let mut of = lines.filter(|line| is_message_of(line.source, function));
        of.next().map(|line| line.vector)
    }

    /// Whether `function` was announced.
    pub fn has(&self, function: Function) -> bool {
        self.require(function).is_ok()
    }

    pub(super) fn require(&self, function: Function) -> Result<(), IrqError> {
        self.functions
            .binary_search(&function)
            .map(|_| ())
            .map_err(|_| IrqError::NoDevice)
    }

    /// Writes the messages of `function` again, because a reset or a sleep state has cleared them.
    ///
    /// # Errors
    /// [`IrqError::NoDevice`] if the function was not announced.
    pub fn restore(&mut self, function: Function) -> Result<(), IrqError> {
        self.require(function)?;
        let Self { machine, lines, .. } = self;
        let mut first = true;
        for line in lines.iter() {
            if !is_message_of(line.source, function) {
                continue;
            }
            if let (Source::Msi(msi, _), true) = (line.source, first) {
                let all = lines
                    .iter()
                    .filter(|line| is_message_of(line.source, function));
                msi.set_count(machine, all.count() as u8);
            }
            first = false;
            line.program(machine);
        }
        Ok(())
    }
}

fn is_message_of(source: Source, function: Function) -> bool {
    match source {
        Source::Msi(msi, _) => msi.function == function,
        Source::Msix(msix) => msix.function == function,
        Source::Line { .. } => false,
    }
}
