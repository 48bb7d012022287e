//! The root pointer: the addresses of the lists of tables (ACPI 6.5 §5.2.5.3).

use log::warn;

use super::table::{field, sum};

/// The size in bytes of the structure in revision 0, and in later revisions.
const BYTES: usize = 20;
const EXTENDED_BYTES: usize = 36;

/// The addresses of the two lists of tables. An address of 0 means that there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// The address of the list of 64-bit addresses.
    pub xsdt: Option<u64>,
    /// The address of the list of 32-bit addresses.
    pub rsdt: Option<u64>,
}

impl Roots {
    /// Parses the root pointer: `rsdp` begins with its signature.
    pub fn parse(rsdp: &[u8]) -> Option<Self> {
        if !rsdp.starts_with(b"RSD PTR ") {
            return None;
        }
        let first = rsdp.get(..BYTES)?;
        if sum(first) != 0 {
            warn!("ACPI: the checksum of the root pointer is wrong; it is used as it is");
        }
        let given = |at: u64| Some(at).filter(|at| *at != 0);
        let rsdt = field::<u32>(rsdp, 16).map(u64::from).and_then(given);
        // Revision 1 doesn't exist, but some firmware gives that number to revision 0.
        let extended = field::<u8>(rsdp, 15)? >= 2 && rsdp.len() >= EXTENDED_BYTES;
        let xsdt = field::<u64>(rsdp, 24).and_then(given).filter(|_| extended);
        Some(Self { xsdt, rsdt })
    }

    /// These addresses; a missing one is taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            xsdt: self.xsdt.or(other.xsdt),
            rsdt: self.rsdt.or(other.rsdt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn rsdp(revision: u8, rsdt: u32, xsdt: u64) -> Vec<u8> {
        let mut bytes = b"RSD PTR \0BOCHS ".to_vec();
        bytes.push(revision);
        bytes.extend(rsdt.to_le_bytes());
        bytes.extend(36_u32.to_le_bytes());
        bytes.extend(xsdt.to_le_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn an_address_of_0_is_none() {
        let roots = |revision, rsdt, xsdt| Roots::parse(&rsdp(revision, rsdt, xsdt));
        let (rsdt, xsdt) = (Some(0x1000), Some(0x2000));
        assert_eq!(roots(2, 0x1000, 0x2000), Some(Roots { xsdt, rsdt }));
        assert_eq!(roots(2, 0x1000, 0), Some(Roots { xsdt: None, rsdt }));
        assert_eq!(roots(0, 0x1000, 0x2000), Some(Roots { xsdt: None, rsdt }));
        assert_eq!(roots(2, 0, 0), Some(Roots::default()));
    }

    #[test]
    fn a_short_or_foreign_one_is_none() {
        let whole = rsdp(2, 0x1000, 0x2000);
        for end in 0..whole.len() {
            let roots = Roots::parse(&whole[..end]);
            assert!(roots.is_none_or(|roots| roots.xsdt.is_none()), "{end}");
        }
        assert_eq!(Roots::parse(b"RSD PTX \0\0\0\0\0\0\0\0\0\0\0\0\0\0"), None);
    }
}
