//! Message-signalled interrupts: the capabilities of a PCI function and what the core writes there (PCI 3.0 §6.8). A
//! device sends a message as a memory write, which a local APIC takes for an interrupt.

use core::ops::RangeInclusive;

use super::{Function, IrqError, Machine, Width};
use crate::arch::ioapic::Gate;
use crate::kit::{CpuId, Maddr, Mfn};

/// Registers of a function's configuration header.
mod header {
    pub const VENDOR: u8 = 0x00;
    pub const COMMAND: u8 = 0x04;
    pub const STATUS: u8 = 0x06;
    pub const TYPE: u8 = 0x0e;
    pub const BARS: u8 = 0x10;
    pub const CAPABILITIES: u8 = 0x34;
    pub const COMMAND_MEMORY: u32 = 2;
    pub const STATUS_CAPABILITIES: u32 = 1 << 4;
}

/// The ids of the capabilities.
const MSI: u32 = 0x05;
const MSIX: u32 = 0x11;
/// A list of more capabilities than configuration space can hold is circular.
const MAX_CAPABILITIES: usize = 48;
/// Bits of the control words of both capabilities.
const MSI_ENABLE: u32 = 1;
const MSI_COUNT: u32 = 7 << 4;
const MSI_64: u32 = 1 << 7;
const MSI_MASKABLE: u32 = 1 << 8;
const MSIX_ENABLE: u32 = 1 << 15;
const MSIX_SIZE: u32 = 0x7ff;
/// The size in bytes of an entry of an MSI-X table.
const ENTRY_BYTES: u64 = 16;

/// The message address of the local APIC of `cpu`, in physical mode (SDM vol. 3 §11.11.1).
fn address(machine: &impl Machine, cpu: CpuId) -> u32 {
    0xfee0_0000 | (machine.apic_id(cpu) & 0xff) << 12
}

fn capability(machine: &mut impl Machine, function: Function, wanted: u32) -> Option<u8> {
    if machine.read(function, header::VENDOR, Width::Word) == 0xffff {
        return None;
    }
    let status = machine.read(function, header::STATUS, Width::Word);
    if status & header::STATUS_CAPABILITIES == 0 {
        return None;
    }
    let mut at = machine.read(function, header::CAPABILITIES, Width::Byte) as u8 & !3;
    for _ in 0..MAX_CAPABILITIES {
        if at < 0x40 {
            return None;
        }
        let head = machine.read(function, at, Width::Word);
        if head & 0xff == wanted {
            return Some(at);
        }
        at = (head >> 8) as u8 & !3;
    }
    None
}

/// The MSI capability of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    /// The function that has the capability.
    pub function: Function,
    at: u8,
    wide: bool,
    maskable: bool,
    /// The number of messages that the function can send.
    pub most: u8,
}

impl Msi {
    /// Finds the capability of `function`.
    ///
    /// # Errors
    /// [`IrqError::NoDevice`] if the function doesn't have it.
    pub fn find(machine: &mut impl Machine, function: Function) -> Result<Self, IrqError> {
        let at = capability(machine, function, MSI)
            // All registers of the longest form must lie within configuration space.
            .filter(|at| *at <= 0xe8)
            .ok_or(IrqError::NoDevice)?;
        let control = machine.read(function, at.wrapping_add(2), Width::Word);
        Ok(Self {
            function,
            at,
            wide: control & MSI_64 != 0,
            maskable: control & MSI_MASKABLE != 0,
            most: 1 << (control >> 1 & 7).min(5),
        })
    }

    fn write(&self, machine: &mut impl Machine, offset: u8, width: Width, value: u32) {
        machine.write(self.function, self.at.wrapping_add(offset), width, value);
    }

    fn change_control(&self, machine: &mut impl Machine, clear: u32, set: u32) {
        let at = self.at.wrapping_add(2);
        let old = machine.read(self.function, at, Width::Word);
        machine.write(self.function, at, Width::Word, old & !clear | set);
    }

    /// Lets the function use `count` messages, a power of two. Enabling them is left to its driver.
    pub(super) fn set_count(&self, machine: &mut impl Machine, count: u8) {
        let set = count.trailing_zeros() << 4;
        self.change_control(machine, MSI_COUNT, set);
    }

    /// Writes the message, with `vector` as the first vector.
    pub(super) fn send(&self, machine: &mut impl Machine, vector: u8, cpu: CpuId) {
        let to = address(machine, cpu);
        self.write(machine, 4, Width::Dword, to);
        if self.wide {
            self.write(machine, 8, Width::Dword, 0);
        }
        let data = if self.wide { 12 } else { 8 };
        self.write(machine, data, Width::Word, u32::from(vector));
    }

    /// Masks or unmasks message `index`, if the function supports that.
    pub(super) fn set_gate(&self, machine: &mut impl Machine, index: u8, gate: Gate) {
        if !self.maskable {
            return;
        }
        let at = self.at.wrapping_add(if self.wide { 16 } else { 12 });
        let bit = 1 << (index & 31);
        let old = machine.read(self.function, at, Width::Dword);
        let new = match gate {
            Gate::Open => old & !bit,
            Gate::Masked => old | bit,
        };
        machine.write(self.function, at, Width::Dword, new);
    }

    /// Enables the function's messages again.
    pub(super) fn enable(&self, machine: &mut impl Machine) {
        self.change_control(machine, 0, MSI_ENABLE);
    }

    /// Disables the function's messages.
    pub(super) fn silence(&self, machine: &mut impl Machine) {
        self.change_control(machine, MSI_ENABLE, 0);
    }
}

/// The location of a function's MSI-X table.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The number of entries in the table.
    count: u16,
    entries: Maddr,
    /// The address of the pending bits, if the function states a valid one.
    pending: Option<Maddr>,
}

impl Layout {
    /// Finds the table of `function`.
    ///
    /// # Errors
    /// [`IrqError::NoDevice`] if the function has no MSI-X, [`IrqError::NoMemoryAccess`] while
    /// its memory decoding is off.
    pub fn find(machine: &mut impl Machine, function: Function) -> Result<Self, IrqError> {
        let at = capability(machine, function, MSIX)
            .filter(|at| *at <= 0xf4)
            .ok_or(IrqError::NoDevice)?;
        let control = machine.read(function, at.wrapping_add(2), Width::Word);
        let command = machine.read(function, header::COMMAND, Width::Word);
        if command & header::COMMAND_MEMORY == 0 {
            return Err(IrqError::NoMemoryAccess);
        }
        let mut place = |offset: u8| {
            let word = machine.read(function, at.wrapping_add(offset), Width::Dword);
            let base = bar(machine, function, word as u8 & 7)?;
            base.0.checked_add(u64::from(word & !7)).map(Maddr)
        };
        Ok(Self {
            count: ((control & MSIX_SIZE) as u16).saturating_add(1),
            entries: place(4).ok_or(IrqError::NoDevice)?,
            pending: place(8),
        })
    }

    fn entry(&self, index: u16) -> Option<Maddr> {
        let offset = ENTRY_BYTES.checked_mul(index.into())?;
        self.entries.0.checked_add(offset).map(Maddr)
    }

    /// The pages that contain entries.
    pub(super) fn entry_pages(&self) -> RangeInclusive<Mfn> {
        pages(self.entries, ENTRY_BYTES.saturating_mul(self.count.into()))
    }

    /// The pages that contain pending bits, which come in groups of 64.
    pub(super) fn pending_pages(&self) -> Option<RangeInclusive<Mfn>> {
        let bytes = u64::from(self.count.div_ceil(64)).saturating_mul(8);
        self.pending.map(|at| pages(at, bytes))
    }
}

fn pages(at: Maddr, bytes: u64) -> RangeInclusive<Mfn> {
    let last = at.0.saturating_add(bytes.saturating_sub(1));
    at.mfn()..=Maddr(last).mfn()
}

/// An entry of a function's MSI-X table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msix {
    /// The function that has the table.
    pub function: Function,
    /// The number of the entry.
    pub index: u16,
    page: Mfn,
    offset: u16,
}

impl Msix {
    /// Entry `index` of the table of `function`, which is at `layout`.
    ///
    /// # Errors
    /// [`IrqError::BadNumber`] if the index is beyond the end of the table.
    pub fn new(function: Function, layout: &Layout, index: u16) -> Result<Self, IrqError> {
        if index >= layout.count {
            return Err(IrqError::BadNumber);
        }
        let entry = layout.entry(index).ok_or(IrqError::NoDevice)?;
        Ok(Self {
            function,
            index,
            page: entry.mfn(),
            offset: entry.offset() as u16,
        })
    }

    fn write(&self, machine: &mut impl Machine, offset: usize, value: u32) -> bool {
        let at = usize::from(self.offset).wrapping_add(offset);
        machine.write_table(self.page, at, value)
    }

    /// Writes the address and the data of the message.
    pub(super) fn send(&self, machine: &mut impl Machine, vector: u8, cpu: CpuId) {
        let to = address(machine, cpu);
        self.write(machine, 0, to);
        self.write(machine, 4, 0);
        self.write(machine, 8, u32::from(vector));
    }

    /// Masks or unmasks the entry; returns whether the table could be accessed.
    pub(super) fn set_gate(&self, machine: &mut impl Machine, gate: Gate) -> bool {
        self.write(machine, 12, u32::from(gate == Gate::Masked))
    }

    /// Disables all messages of the function.
    pub(super) fn silence(machine: &mut impl Machine, function: Function) {
        if let Some(at) = capability(machine, function, MSIX) {
            let control = at.wrapping_add(2);
            let old = machine.read(function, control, Width::Word);
            machine.write(function, control, Width::Word, old & !MSIX_ENABLE);
        }
    }
}

/// The address in base address register `index`, if it decodes memory (PCI 3.0 §6.2.5.1).
fn bar(machine: &mut impl Machine, function: Function, index: u8) -> Option<Maddr> {
    let bars = match machine.read(function, header::TYPE, Width::Byte) & 0x7f {
        0 => 6,
        1 => 2,
        _ => return None,
    };
    let register = |index: u8| header::BARS.wrapping_add(index.wrapping_mul(4));
    if index >= bars {
        return None;
    }
    let low = machine.read(function, register(index), Width::Dword);
    let wide = low & 6 == 4;
    if low & 1 != 0 || wide && index.wrapping_add(1) >= bars {
        return None;
    }
    let high = if wide {
        machine.read(function, register(index.wrapping_add(1)), Width::Dword)
    } else {
        0
    };
    let base = u64::from(high) << 32 | u64::from(low & !0xf);
    (base != 0).then_some(Maddr(base))
}

/// Whether a function has the MSI-X capability.
pub fn has_msix(machine: &mut impl Machine, function: Function) -> bool {
    capability(machine, function, MSIX).is_some()
}
