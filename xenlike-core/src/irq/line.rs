//! One interrupt: its source, its holders, and its mask.

use arrayvec::ArrayVec;

use super::message::{Msi, Msix};
use super::{Book, Machine};
use crate::arch::ioapic::{Gate, Trigger};
use crate::kit::{CpuId, DomId, Port};

/// The number of domains that may share a line.
pub const MAX_HOLDERS: usize = 8;
/// How many messages without a holder are tolerated from a function that can't mask them, before its messages are
/// disabled. One may be in flight when a driver releases the interrupt.
const MAX_STRAYS: u32 = 64;

/// The source of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A line of an I/O APIC.
    Line {
        /// The global system interrupt number of the line.
        gsi: u32,
        /// The condition on which the line requests.
        trigger: Trigger,
    },
    /// Message number `index` of a function with MSI.
    Msi(Msi, u8),
    /// An entry of a function's MSI-X table.
    Msix(Msix),
}

/// A domain that handles an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The domain that handles it.
    pub dom: DomId,
    /// The domain's number for the interrupt.
    pub pirq: u32,
    /// The port of the event channel to which it is bound.
    pub port: Port,
    /// Whether the domain shares the line with other holders.
    pub shares: bool,
    /// Whether a level-triggered interrupt was sent to the domain, which has not said yet that it is done.
    pub owes_end: bool,
}

/// An interrupt that has a vector.
#[derive(Debug)]
pub struct Line {
    /// The vector by which it arrives.
    pub vector: u8,
    /// The device's line or message.
    pub source: Source,
    /// The CPU to which it is sent.
    pub cpu: CpuId,
    /// The domains that handle it.
    pub holders: ArrayVec<Holder, MAX_HOLDERS>,
    /// How often it has arrived.
    pub count: u64,
    /// How often it has arrived in a row without a holder.
    strays: u32,
    /// Whether the function's messages were disabled because of that.
    silenced: bool,
}

impl Line {
    pub(super) const fn new(vector: u8, source: Source) -> Self {
        Self {
            vector,
            source,
            cpu: CpuId(0),
            holders: ArrayVec::new_const(),
            count: 0,
            strays: 0,
            silenced: false,
        }
    }

    /// Whether it is level-triggered: it lasts until a driver has served the device.
    pub fn is_level(&self) -> bool {
        matches!(self.source, Source::Line { trigger, .. } if trigger.is_level())
    }

    /// Whether it should be open: it has holders, and none has yet to end an interrupt.
    fn wanted(&self) -> Gate {
        if self.holders.is_empty() || self.holders.iter().any(|holder| holder.owes_end) {
            Gate::Masked
        } else {
            Gate::Open
        }
    }

    /// Programs the vector, the CPU and the mask. A message is masked while it is rewritten.
    pub(super) fn program(&self, machine: &mut impl Machine) {
        let gate = self.wanted();
        match self.source {
            Source::Line { gsi, trigger } => {
                machine.route(gsi, self.vector, self.cpu, trigger, gate)
            }
            Source::Msi(msi, index) => {
                msi.set_gate(machine, index, Gate::Masked);
                if index == 0 {
                    msi.send(machine, self.vector, self.cpu);
                }
                msi.set_gate(machine, index, gate);
            }
            Source::Msix(msix) => {
                msix.set_gate(machine, Gate::Masked);
                msix.send(machine, self.vector, self.cpu);
                msix.set_gate(machine, gate);
            }
        }
    }

    /// Programs only the mask.
    pub(super) fn set_gate(&self, machine: &mut impl Machine) {
        self.gate(machine, self.wanted());
    }

    /// Masks it, because its last map is gone.
    pub(super) fn close(&self, machine: &mut impl Machine) {
        self.gate(machine, Gate::Masked);
    }

    fn gate(&self, machine: &mut impl Machine, gate: Gate) {
        match self.source {
            Source::Line { gsi, .. } => machine.set_gate(gsi, gate),
            Source::Msi(msi, index) => msi.set_gate(machine, index, gate),
            Source::Msix(msix) => {
                msix.set_gate(machine, gate);
            }
        }
    }

    /// Clears the count of stray messages, for a new holder. If the function's messages
    /// were disabled, enables them again.
    pub(super) fn forgive(&mut self, machine: &mut impl Machine) {
        self.strays = 0;
        if let (Source::Msi(msi, _), true) = (self.source, self.silenced) {
            msi.enable(machine);
        }
        self.silenced = false;
    }

    /// Handles an arrival without holders: masks the source, and after too many
    /// arrivals disables the function's messages.
    fn stray(&mut self, machine: &mut impl Machine) {
        self.strays = self.strays.saturating_add(1);
        self.set_gate(machine);
        if let Source::Msi(msi, _) = self.source
            && self.strays >= MAX_STRAYS
        {
            msi.silence(machine);
            self.silenced = true;
        }
    }
}

/// The holders to which an arrival is sent.
pub type Told = ArrayVec<Holder, MAX_HOLDERS>;

impl<M: Machine> Book<M> {
    pub(super) fn line(&mut self, vector: u8) -> Option<(&mut Line, &mut M)> {
        let at = self
            .lines
            .binary_search_by_key(&vector, |line| line.vector)
            .ok()?;
        Some((self.lines.get_mut(at)?, &mut self.machine))
    }

    /// Handles the arrival of an interrupt by `vector`. Returns the holders to notify once it is acknowledged, or
    /// `None` if the vector is not in use; a device that domain 0 drives can send any vector.
    pub fn arrived(&mut self, vector: u8) -> Option<Told> {
        let (line, machine) = self.line(vector)?;
        line.count = line.count.wrapping_add(1);
        if line.holders.is_empty() {
            line.stray(machine);
            return Some(Told::new());
        }
        if line.is_level() {
            for holder in &mut line.holders {
                holder.owes_end = true;
            }
            line.set_gate(machine);
        }
        Some(line.holders.clone())
    }

    /// All lines in use, by ascending vector.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}
