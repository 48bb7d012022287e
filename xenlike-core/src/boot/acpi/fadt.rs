//! The FADT: the registers for power and reset, the PM timer, and where the DSDT is (ACPI 6.5 §5.2.9).

use log::warn;

use super::table::{Field, Table, field};

/// Flags: there is a reset register; none of the fixed registers exist.
const RESET_REGISTER: u32 = 1 << 10;
const HARDWARE_REDUCED: u32 = 1 << 20;
/// A value for [`Address::space`]: memory, I/O ports, PCI configuration.
pub const MEMORY: u8 = 0;
pub const PORTS: u8 = 1;
#[cfg(target_os = "none")]
pub const PCI: u8 = 2;

/// A register anywhere (ACPI 6.5 §5.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Memory, ports, or another space.
    pub space: u8,
    /// Where.
    pub at: u64,
}

impl Address {
    /// The one at `offset` of a table; nothing if its address is 0.
    pub fn read(table: Table<'_>, offset: usize) -> Option<Self> {
        let bytes = table.bytes.get(offset..)?;
        let (space, at) = (field(bytes, 0)?, field::<u64>(bytes, 4)?);
        (at != 0).then_some(Self { space, at })
    }

    /// As an I/O port.
    pub fn port(self) -> Option<u16> {
        let port = u16::try_from(self.at).ok();
        port.filter(|port| self.space == PORTS && *port != 0)
    }
}

/// The FADT.
#[derive(Clone, Copy)]
pub struct Fadt<'a>(pub Table<'a>);

impl<'a> Fadt<'a> {
    /// Whether none of the fixed registers exist (ACPI 6.5 §4.1).
    pub fn is_hardware_reduced(self) -> bool {
        self.flags() & HARDWARE_REDUCED != 0
    }

    fn flags(self) -> u32 {
        self.0.field(112).unwrap_or_default()
    }

    /// A fixed register: the 64-bit field where that has an address, else the 32-bit one.
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

    /// The status ports of PM1a and PM1b.
    pub fn pm1_status(self) -> [Option<u16>; 2] {
        [
            self.port("PM1a status", 56, 148),
            self.port("PM1b status", 60, 160),
        ]
    }

    /// The control ports of PM1a and PM1b.
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

    /// Sleep control and sleep status of a hardware-reduced machine.
    pub fn sleep(self) -> Option<(Address, Option<Address>)> {
        let control = Address::read(self.0, 244).filter(|_| self.is_hardware_reduced())?;
        Some((control, Address::read(self.0, 256)))
    }

    /// The reset register and the value to write there.
    pub fn reset(self) -> Option<(Address, u8)> {
        if self.flags() & RESET_REGISTER == 0 {
            return None;
        }
        Address::read(self.0, 116).zip(self.0.field(128))
    }

    /// Where the DSDT and the FACS are, by all fields.
    pub fn others(self) -> impl Iterator<Item = u64> + use<'a> {
        let narrow = [36, 40].map(|at| self.nonzero::<u32>(at).map(u64::from));
        let wide = [132, 140].map(|at| self.nonzero::<u64>(at));
        narrow.into_iter().chain(wide).flatten()
    }

    /// Where the DSDT is, best guess first.
    pub fn dsdt(self) -> impl Iterator<Item = u64> + use<'a> {
        let wide = self.nonzero::<u64>(140);
        let narrow = self.nonzero::<u32>(40).map(u64::from);
        wide.into_iter()
            .chain(narrow.filter(|at| Some(*at) != wide))
    }
}
