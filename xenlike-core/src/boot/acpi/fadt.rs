//! The FADT: the registers for power management and reset, the PM timer, and the address of the DSDT (ACPI 6.5 §5.2.9).

use log::warn;

use super::table::{Field, Table, field};

/// Flags: there is a reset register; the fixed registers don't exist.
const RESET_REGISTER: u32 = 1 << 10;
const HARDWARE_REDUCED: u32 = 1 << 20;
/// Values of [`Address::space`]: memory, I/O ports, PCI configuration space.
pub const MEMORY: u8 = 0;
pub const PORTS: u8 = 1;
#[cfg(target_os = "none")]
pub const PCI: u8 = 2;

/// The address of a register in any address space (ACPI 6.5 §5.2.3.2, Generic Address Structure).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address space: memory, ports, or another.
    pub space: u8,
    /// The address in that space.
    pub at: u64,
}

impl Address {
    /// The address at `offset` of a table; `None` if it is 0.
    pub fn read(table: Table<'_>, offset: usize) -> Option<Self> {
        let bytes = table.bytes.get(offset..)?;
        let (space, at) = (field(bytes, 0)?, field::<u64>(bytes, 4)?);
        (at != 0).then_some(Self { space, at })
    }

    /// The address as an I/O port, if it is one.
    pub fn port(self) -> Option<u16> {
        let port = u16::try_from(self.at).ok();
        port.filter(|port| self.space == PORTS && *port != 0)
    }
}

/// The FADT, with access to its fields.
#[derive(Clone, Copy)]
pub struct Fadt<'a>(pub Table<'a>);

impl<'a> Fadt<'a> {
    /// Whether the fixed registers don't exist (ACPI 6.5 §4.1).
    pub fn is_hardware_reduced(self) -> bool {
        self.flags() & HARDWARE_REDUCED != 0
    }

    fn flags(self) -> u32 {
        self.0.field(112).unwrap_or_default()
    }

    /// The port of a fixed register: from the 64-bit field if that has an address, else from the 32-bit field.
    fn port(self, name: &str, narrow: usize, wide: usize) -> Option<u16> {
        if self.is_hardware_reduced() {
            return None;
        }
        let old = self
            .nonzero::<u32>(narrow)
            .and_then(|at| u16::try_from(at).ok());
        let new = Address::read(self.0, wide);
        let port = new.and_then(Address::port);
        if port.is_some() && old.is_some() && port != old {
            warn!("ACPI: the FADT has two addresses for {name}; the 64-bit field's is used");
        }
        if new.is_some() && port.is_none() {
            warn!("ACPI: {name} is at no I/O port");
        }
        port.or(old)
    }

    fn nonzero<T: Field + Default + PartialEq>(self, offset: usize) -> Option<T> {
        let value = self.0.field::<T>(offset);
        value.filter(|value| *value != T::default())
    }

    /// The ports of the status registers PM1a and PM1b.
    pub fn pm1_status(self) -> [Option<u16>; 2] {
        [
            self.port("PM1a status", 56, 148),
            self.port("PM1b status", 60, 160),
        ]
    }

    /// The ports of the control registers PM1a and PM1b.
    pub fn pm1_control(self) -> [Option<u16>; 2] {
        [
            self.port("PM1a control", 64, 172),
            self.port("PM1b control", 68, 184),
        ]
    }

    /// The port of the PM timer.
    pub fn pm_timer(self) -> Option<u16> {
        self.port("the PM timer", 76, 208)
    }

    /// The sleep control and sleep status registers of a hardware-reduced machine.
    pub fn sleep(self) -> Option<(Address, Option<Address>)> {
        let control = Address::read(self.0, 244).filter(|_| self.is_hardware_reduced())?;
        Some((control, Address::read(self.0, 256)))
    }

    /// The reset register and the value that resets the machine.
    pub fn reset(self) -> Option<(Address, u8)> {
        if self.flags() & RESET_REGISTER == 0 {
            return None;
        }
        Address::read(self.0, 116).zip(self.0.field(128))
    }

    /// The addresses of the DSDT and the FACS, in all fields that have them.
    pub fn others(self) -> impl Iterator<Item = u64> + use<'a> {
        let narrow = [36, 40].map(|at| self.nonzero::<u32>(at).map(u64::from));
        let wide = [132, 140].map(|at| self.nonzero::<u64>(at));
        narrow.into_iter().chain(wide).flatten()
    }

    /// The possible addresses of the DSDT, the likeliest one first.
    pub fn dsdt(self) -> impl Iterator<Item = u64> + use<'a> {
        let wide = self.nonzero::<u64>(140);
        let narrow = self.nonzero::<u32>(40).map(u64::from);
        wide.into_iter()
            .chain(narrow.filter(|at| Some(*at) != wide))
    }
}
