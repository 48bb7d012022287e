//! The PC's own ports as a PV guest finds them, without touching the machine: PIT channel 2 with the
//! speaker port, the CMOS index, the PCI configuration address. A domain holds one [`Ports`] under a lock;
//! `emul` decides who may use what.
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

/// A domain's ports.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    /// Interval timer channel 2: ports 0x42, 0x43, 0x61.
    pub pit: Pit,
    /// What was last written to port 0x70.
    pub cmos_index: u8,
    /// What was last written to port 0xcf8 as four bytes.
    pub pci_address: u32,
}
