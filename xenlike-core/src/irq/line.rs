//! One interrupt: where it comes from, who handles it, whether it is let through.

use arrayvec::ArrayVec;

use super::message::{Msi, Msix};
use super::{Book, Machine};
use crate::arch::ioapic::{Gate, Trigger};
use crate::kit::{CpuId, DomId, Port};

/// Domains that may share one line.
pub const MOST_HOLDERS: usize = 8;
/// Arrivals of a message that nobody handles and that can't be masked, before the device is told to
/// send none: one may be under way when its driver lets go.
const MOST_STRAYS: u32 = 64;

/// Where an interrupt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A line of an I/O APIC.
    Line {
        /// Its number.
        gsi: u32,
        /// When it asks.
        trigger: Trigger,
    },
    /// Message `index` of a function with MSI.
    Msi(Msi, u8),
    /// An entry of an MSI-X table.
    Msix(Msix),
}

/// A domain that handles an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub dom: DomId,
    /// By what number.
    pub pirq: u32,
    /// The event channel that tells it.
    pub port: Port,
    /// Whether it lets others hold the line too.
    pub shares: bool,
    /// It was told of a level-triggered interrupt, and has not said yet that it is done.
    pub owes_end: bool,
}

/// An interrupt with a vector.
#[derive(Debug)]
pub struct Line {
    /// What it arrives by.
    pub vector: u8,
    /// Where it comes from.
    pub source: Source,
    /// The CPU it goes to.
    pub cpu: CpuId,
    /// Who handles it.
    pub holders: ArrayVec<Holder, MOST_HOLDERS>,
    /// How often it arrived.
    pub count: u64,
    /// How often it arrived in a row while nobody handled it.
    strays: u32,
    /// Its function was told to send no messages, for that.
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

    /// Whether its cause lasts until a driver sees to it.
    pub fn is_level(&self) -> bool {
        matches!(self.source, Source::Line { trigger, .. } if trigger.is_level())
    }

    /// Whether it should be let through now.
    fn wanted(&self) -> Gate {
        if self.holders.is_empty() || self.holders.iter().any(|holder| holder.owes_end) {
            Gate::Masked
        } else {
            Gate::Open
        }
    }

    /// Tells the machine all of it: vector, CPU, and whether it is let through.
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

    /// Tells the machine whether it is let through.
    pub(super) fn set_gate(&self, machine: &mut impl Machine) {
        self.gate(machine, self.wanted());
    }

    /// Masks it for good.
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

    /// Somebody handles it now: if the device was told to send none, it may again.
    pub(super) fn forgive(&mut self, machine: &mut impl Machine) {
        self.strays = 0;
        if let (Source::Msi(msi, _), true) = (self.source, self.silenced) {
            msi.enable(machine);
        }
        self.silenced = false;
    }

    /// Nobody handles it: it is stopped at its source.
    fn stray(&mut self, machine: &mut impl Machine) {
        self.strays = self.strays.saturating_add(1);
        self.set_gate(machine);
        if let Source::Msi(msi, _) = self.source
            && self.strays >= MOST_STRAYS
        {
            msi.silence(machine);
            self.silenced = true;
        }
    }
}

/// Whom to tell of an arrival.
pub type Told = ArrayVec<Holder, MOST_HOLDERS>;

impl<M: Machine> Book<M> {
    pub(super) fn line(&mut self, vector: u8) -> Option<(&mut Line, &mut M)> {
        let at = self
            .lines
            .binary_search_by_key(&vector, |line| line.vector)
            .ok()?;
        Some((self.lines.get_mut(at)?, &mut self.machine))
    }

    /// An interrupt arrived by `vector`: whom to tell of it, once it is acknowledged. None if the
    /// vector means nothing, which a device that Dom0 drives can bring about.
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

    /// All lines, for who looks.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}
