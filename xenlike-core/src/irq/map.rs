//! Maps: the numbers (*pirqs*) by which domains refer to interrupts.

use super::line::{Line, Source};
use super::message::{Layout, Msi, Msix};
use super::{Book, Function, IrqError, Machine, PIRQS};
use crate::arch::ioapic::Trigger;
use crate::kit::DomId;

/// A domain's number for an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// The domain that owns the number.
    pub dom: DomId,
    /// The number of the interrupt in this domain, below [`PIRQS`].
    pub pirq: u32,
    /// The vector of the interrupt; `None` if the number is only reserved.
    pub vector: Option<u8>,
}

/// The most messages that a function with MSI can have (PCI 3.0 §6.8.1.3).
const MAX_MESSAGES: u8 = 32;

impl<M: Machine> Book<M> {
    fn place(&self, dom: DomId, pirq: u32) -> Result<usize, usize> {
        self.maps
            .binary_search_by_key(&(dom, pirq), |map| (map.dom, map.pirq))
    }

    pub(super) fn vector_of(&self, dom: DomId, pirq: u32) -> Result<u8, IrqError> {
        let at = self.place(dom, pirq).map_err(|_| IrqError::BadNumber)?;
        let map = self.maps.get(at).ok_or(IrqError::BadNumber)?;
        map.vector.ok_or(IrqError::BadNumber)
    }

    /// Whether `pirq` of `dom` is mapped to an interrupt.
    pub fn is_mapped(&self, dom: DomId, pirq: u32) -> bool {
        self.vector_of(dom, pirq).is_ok()
    }

    /// The GSI to which `pirq` of `dom` is mapped, if that is a line of an I/O APIC.
    pub fn gsi_of(&self, dom: DomId, pirq: u32) -> Option<u32> {
        let vector = self.vector_of(dom, pirq).ok()?;
        let line = self.lines.iter().find(|line| line.vector == vector)?;
        match line.source {
            Source::Line { gsi, .. } => Some(gsi),
            _ => None,
        }
    }

    /// All mappings, sorted by domain and number.
    pub fn maps(&self) -> &[Map] {
        &self.maps
    }

    fn add_map(&mut self, map: Map) -> Result<(), IrqError> {
        let at = match self.place(map.dom, map.pirq) {
            Ok(at) => match self.maps.get_mut(at) {
                // A reserved number may be mapped.
                Some(old) if old.vector.is_none() => {
                    *old = map;
                    return Ok(());
                }
                _ => return Err(IrqError::Taken),
            },
            Err(at) => at,
        };
        self.maps.try_reserve(1).map_err(|_| IrqError::NoMemory)?;
        self.maps.insert(at, map);
        Ok(())
    }

    fn add_line(&mut self, vector: u8, source: Source) -> Result<(), IrqError> {
        self.lines.try_reserve(1).map_err(|_| IrqError::NoMemory)?;
        let line = Line::new(vector, source);
        let at = self.lines.partition_point(|line| line.vector < vector);
        self.lines.insert(at, line);
        Ok(())
    }

    /// The first of `count` consecutive free numbers of `dom`, above those of all lines.
    fn free_numbers(&self, dom: DomId, count: u32) -> Result<u32, IrqError> {
        let first = self.machine.lines().max(super::ISA_LINES);
        let free = |from: &u32| {
            (*from..from.saturating_add(count)).all(|pirq| self.place(dom, pirq).is_err())
        };
        let last = PIRQS.checked_sub(count).ok_or(IrqError::NoSpace)?;
        (first..=last).find(free).ok_or(IrqError::NoSpace)
    }

    /// Reserves a free number for `dom`.
    ///
    /// # Errors
    /// [`IrqError::NoSpace`] or [`IrqError::NoMemory`] if there is no number or memory left.
    pub fn reserve(&mut self, dom: DomId) -> Result<u32, IrqError> {
        let pirq = self.free_numbers(dom, 1)?;
        self.reserve_as(dom, pirq)
    }

    /// Reserves the number `pirq` for `dom`.
    ///
    /// # Errors
    /// [`IrqError::Taken`] if it is mapped, [`IrqError::NoMemory`] if there is no memory left.
    pub fn reserve_as(&mut self, dom: DomId, pirq: u32) -> Result<u32, IrqError> {
        let vector = None;
        self.add_map(Map { dom, pirq, vector })?;
        Ok(pirq)
    }

    /// Maps line `gsi` in `dom` to the number `pirq`. Without a number, returns the one that the line has, or chooses a
    /// free one. The line stays masked until it has a holder.
    ///
    /// # Errors
    /// [`IrqError::BadNumber`] if the line or number doesn't exist, [`IrqError::Taken`] if either is mapped otherwise,
    /// [`IrqError::NoSpace`] or [`IrqError::NoMemory`] if no number, vector or memory is left.
    pub fn map_line(&mut self, dom: DomId, gsi: u32, pirq: Option<u32>) -> Result<u32, IrqError> {
        if gsi >= self.machine.lines() || pirq.is_some_and(|pirq| pirq >= PIRQS) {
            return Err(IrqError::BadNumber);
        }
        let is_it = |line: &&Line| matches!(line.source, Source::Line { gsi: g, .. } if g == gsi);
        let vector = self.lines.iter().find(is_it).map(|line| line.vector);
        let has = |map: &&Map| map.dom == dom && map.vector.is_some() && map.vector == vector;
        if let Some(map) = self.maps.iter().find(has) {
            return match pirq {
                Some(pirq) if pirq != map.pirq => Err(IrqError::Taken),
                _ => Ok(map.pirq),
            };
        }
        let pirq = match pirq {
            Some(pirq) => pirq,
            None if self.place(dom, gsi).is_err() => gsi,
            None => self.free_numbers(dom, 1)?,
        };
        match vector {
            Some(_) => self.add_map(Map { dom, pirq, vector })?,
            None => {
                let trigger = self.wiring(gsi);
                self.add_new(dom, pirq, 1, |_| Source::Line { gsi, trigger })?;
            }
        }
        Ok(pirq)
    }

    /// Adds `count` consecutive lines with vectors and maps: all or none of them.
    fn add_new(
        &mut self,
        dom: DomId,
        pirq: u32,
        count: u8,
        source: impl Fn(u8) -> Source,
    ) -> Result<(), IrqError> {
        let first = self.vectors.take(count).ok_or(IrqError::NoSpace)?;
        for index in 0..count {
            let vector = first.wrapping_add(index);
            let map = Map {
                dom,
                pirq: pirq.saturating_add(index.into()),
                vector: Some(vector),
            };
            let added = self
                .add_map(map)
                .and_then(|()| self.add_line(vector, source(index)));
            if let Err(error) = added {
                self.drop_maps(|map| map.vector.is_some_and(|v| (first..=vector).contains(&v)));
                for unused in vector..first.wrapping_add(count) {
                    self.vectors.give(unused);
                }
                return Err(error);
            }
            if let Some((line, machine)) = self.line(vector) {
                line.program(machine);
            }
        }
        Ok(())
    }

    /// Maps `count` messages of a function with MSI to consecutive numbers, from `pirq` on or
    /// free ones. Returns the first.
    ///
    /// # Errors
    /// [`IrqError::NoDevice`] if the function was not announced or has no MSI, [`IrqError::BadNumber`] for a count that
    /// it can't send, [`IrqError::Exists`] if its messages are mapped already, and those of [`Book::map_line`].
    pub fn map_msi(
        &mut self,
        dom: DomId,
        function: Function,
        count: u8,
        pirq: Option<u32>,
    ) -> Result<u32, IrqError> {
        self.require(function)?;
        let msi = Msi::find(&mut self.machine, function)?;
        if count > msi.most.min(MAX_MESSAGES) || !count.is_power_of_two() {
            return Err(IrqError::BadNumber);
        }
        let other =
            |line: &Line| matches!(line.source, Source::Msi(m, _) if m.function == function);
        if self.lines.iter().any(other) {
            return Err(IrqError::Exists);
        }
        let pirq = self.numbers(dom, pirq, count)?;
        msi.set_count(&mut self.machine, count);
        self.add_new(dom, pirq, count, |index| Source::Msi(msi, index))?;
        Ok(pirq)
    }

    /// Maps entry `index` of a function's MSI-X table to the number `pirq`, or to a free one.
    ///
    /// # Errors
    /// Those of [`Book::map_msi`], and [`IrqError::NoMemoryAccess`] if the function's memory decoding is off.
    pub fn map_msix(
        &mut self,
        dom: DomId,
        function: Function,
        index: u16,
        pirq: Option<u32>,
    ) -> Result<u32, IrqError> {
        self.require(function)?;
        let layout = Layout::find(&mut self.machine, function)?;
        let msix = Msix::new(function, &layout, index)?;
        let other = |line: &Line| matches!(line.source, Source::Msix(m) if m.function == function && m.index == index);
        if self.lines.iter().any(other) {
            return Err(IrqError::Exists);
        }
        if !msix.set_gate(&mut self.machine, crate::arch::ioapic::Gate::Masked) {
            return Err(IrqError::NoDevice);
        }
        let pirq = self.numbers(dom, pirq, 1)?;
        self.use_table(function, &layout)?;
        self.add_new(dom, pirq, 1, |_| Source::Msix(msix))
            .inspect_err(|_| self.settle_table(function))?;
        Ok(pirq)
    }

    fn numbers(&self, dom: DomId, pirq: Option<u32>, count: u8) -> Result<u32, IrqError> {
        match pirq {
            Some(pirq) if pirq.saturating_add(count.into()) > PIRQS => Err(IrqError::BadNumber),
            Some(pirq) => Ok(pirq),
            None => self.free_numbers(dom, count.into()),
        }
    }

    /// Unmaps `pirq`. If the domain holds the interrupt by that number, it is released first.
    ///
    /// # Errors
    /// [`IrqError::BadNumber`] if the number is not mapped.
    pub fn unmap(&mut self, dom: DomId, pirq: u32) -> Result<(), IrqError> {
        self.place(dom, pirq).map_err(|_| IrqError::BadNumber)?;
        let _ = self.let_go(dom, pirq);
        self.drop_maps(|map| map.dom == dom && map.pirq == pirq);
        Ok(())
    }

    /// Unmaps all numbers of `dom`, and releases the interrupts that it holds.
    pub fn forget(&mut self, dom: DomId) {
        let mut next = 0;
        while let Some(map) = self
            .maps
            .iter()
            .find(|map| map.dom == dom && map.pirq >= next)
            .copied()
        {
            let _ = self.let_go(dom, map.pirq);
            next = map.pirq.saturating_add(1);
        }
        self.drop_maps(|map| map.dom == dom);
    }

    /// Removes maps, and the lines that lose their last map.
    fn drop_maps(&mut self, which: impl Fn(&Map) -> bool) {
        self.maps.retain(|map| !which(map));
        while let Some(at) = self.unused_line() {
            let line = self.lines.remove(at);
            line.close(&mut self.machine);
            self.vectors.give(line.vector);
            self.silence_without(line.source);
        }
    }

    fn unused_line(&self) -> Option<usize> {
        let maps = &self.maps;
        let unused = |line: &Line| !maps.iter().any(|map| map.vector == Some(line.vector));
        self.lines.iter().position(unused)
    }

    /// Disables the messages of a function that has no mapped message any more.
    fn silence_without(&mut self, source: Source) {
        let left = |line: &Line| match (line.source, source) {
            (Source::Msi(a, _), Source::Msi(b, _)) => a == b,
            (Source::Msix(a), Source::Msix(b)) => a.function == b.function,
            _ => false,
        };
        if self.lines.iter().any(left) {
            return;
        }
        match source {
            Source::Msi(msi, _) => {
                msi.silence(&mut self.machine);
                msi.set_count(&mut self.machine, 1);
            }
            Source::Msix(msix) => {
                Msix::silence(&mut self.machine, msix.function);
                self.settle_table(msix.function);
            }
            Source::Line { .. } => {}
        }
    }

    /// Sets how line `gsi` is wired, as domain 0 reports it.
    ///
    /// # Errors
    /// [`IrqError::Exists`] if that is known already, [`IrqError::Busy`] if the line has holders and another wiring,
    /// [`IrqError::BadNumber`] if there is no such line.
    pub fn wire(&mut self, gsi: u32, trigger: Trigger) -> Result<(), IrqError> {
        if gsi >= self.machine.lines() {
            return Err(IrqError::BadNumber);
        }
        let known = self.wires.iter_mut().find(|(line, _)| *line == gsi);
        let is_it =
            |line: &&mut Line| matches!(line.source, Source::Line { gsi: g, .. } if g == gsi);
        let line = self.lines.iter_mut().find(is_it);
        match known {
            Some((_, old)) if *old == trigger => return Err(IrqError::Exists),
            _ if line.as_ref().is_some_and(|line| !line.holders.is_empty()) => {
                return Err(IrqError::Busy);
            }
            Some((_, old)) => *old = trigger,
            None => {
                self.wires.try_reserve(1).map_err(|_| IrqError::NoMemory)?;
                self.wires.push((gsi, trigger));
            }
        }
        if let Some(line) = line {
            line.source = Source::Line { gsi, trigger };
            line.program(&mut self.machine);
        }
        Ok(())
    }
}
