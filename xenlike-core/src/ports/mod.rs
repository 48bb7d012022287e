//! A PC's own I/O ports as a PV guest sees them, emulated without accessing the machine: PIT channel 2 with the speaker
//! port, the CMOS index, the PCI configuration address. A domain has one [`Ports`], under a lock; `emul` decides which
//! domain may use which port.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

pub mod pit;

use pit::Pit;

/// The emulated ports of a domain.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    /// Channel 2 of the interval timer: ports 0x42, 0x43 and 0x61.
    pub pit: Pit,
    /// The byte that was last written to port 0x70.
    pub cmos_index: u8,
    /// The word that was last written to port 0xcf8 with four bytes.
    pub pci_address: u32,
}
