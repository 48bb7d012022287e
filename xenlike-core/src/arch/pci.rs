//! PCI configuration space of the first segment, by ports 0xcf8 and 0xcfc (PCI 3.0 §3.2.2.3.2). The data port accesses
//! the register that the address port names, so one CPU at a time may use the pair.

use super::port;
use crate::kit::{Lock, Rank};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;

static ONE_USER: Lock<()> = Lock::new(Rank::PciConfig, ());

/// The value of the address port for register `at` of a function.
pub const fn address(bus: u8, devfn: u8, at: u8) -> u32 {
    1 << 31 | (bus as u32) << 16 | (devfn as u32) << 8 | (at & !3) as u32
}

/// A pair of functions that access the data port.
macro_rules! access {
    ($read:ident, $write:ident, $type:ty, $in:ident, $out:ident) => {
        /// Reads at byte `offset` of the word that `address` names.
        pub fn $read(address: u32, offset: u8) -> $type {
            let _user = ONE_USER.lock();
            port::outl(ADDRESS, address);
            port::$in(DATA | u16::from(offset & 3))
        }
        /// Writes at byte `offset` of the word that `address` names.
        pub fn $write(address: u32, offset: u8, value: $type) {
            let _user = ONE_USER.lock();
            port::outl(ADDRESS, address);
            port::$out(DATA | u16::from(offset & 3), value);
        }
    };
}
access!(read8, write8, u8, inb, outb);
access!(read16, write16, u16, inw, outw);
access!(read32, write32, u32, inl, outl);
