//! One ACPI table as bytes of the firmware, and the list of all of them. Nothing that a table says is
//! believed before it is checked: lengths, addresses, counts.

use alloc::vec::Vec;
use log::warn;

use super::rsdp::Roots;

/// Bytes of the header that every table has (ACPI 6.5 §5.2.6).
pub const HEADER_BYTES: usize = 36;
/// Longer than any table there is; a longer one is not mapped.
const MAX_TABLE_BYTES: usize = 16 << 20;
/// The most tables that are looked at.
const MAX_TABLES: usize = 128;

/// The machine's memory as the tables refer to it.
pub trait Firmware {
    /// The `bytes` bytes at `at`; nothing where this machine can't have memory.
    fn bytes(&self, at: u64, bytes: usize) -> Option<&[u8]>;

    /// Whether this machine's addresses go that far: bits above those that it has are reserved in page tables.
    fn reaches(&self, at: u64, bytes: u64) -> bool;

    /// Whether there is RAM at `at`.
    fn is_ram(&self, at: u64) -> bool;

    /// Whether a device can have its registers there. What is written to them must never reach RAM.
    fn can_be_device(&self, at: u64, bytes: u64) -> bool {
        self.reaches(at, bytes) && !self.is_ram(at)
    }
}

/// A little-endian number in a table; nothing behind its end.
pub trait Field: Sized {
    /// The number at `offset`.
    fn at(bytes: &[u8], offset: usize) -> Option<Self>;
}

macro_rules! field {
    ($($type:ty)*) => {$(
        impl Field for $type {
            fn at(bytes: &[u8], offset: usize) -> Option<Self> {
                let rest = bytes.get(offset..)?;
                Some(Self::from_le_bytes(*rest.first_chunk()?))
            }
        }
    )*};
}
field!(u8 u16 u32 u64);

/// The number at `offset` of `bytes`.
pub fn field<T: Field>(bytes: &[u8], offset: usize) -> Option<T> {
    T::at(bytes, offset)
}

/// The bytes' sum, which is 0 in a table without faults.
pub fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A table with its header.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// All of it.
    pub bytes: &'a [u8],
}

impl<'a> Table<'a> {
    /// The table at `at`, if what its header says of its length makes sense. A wrong checksum is worth a
    /// warning and no more: firmware gets it wrong, and without its tables the machine is of no use.
    pub fn find(firmware: &'a impl Firmware, at: u64) -> Option<Self> {
        let header = firmware.bytes(at, HEADER_BYTES);
        let length = header.and_then(|header| field::<u32>(header, 4));
        let Some((header, length)) = header.zip(length) else {
            warn!("ACPI: there can be no table at {at:#x}");
            return None;
        };
        let name = header.get(..4).unwrap_or_default().escape_ascii();
        let length = length as usize;
        if !(HEADER_BYTES..=MAX_TABLE_BYTES).contains(&length) {
            warn!("ACPI: table {name} at {at:#x} can't be {length} bytes long; it is left out");
            return None;
        }
        let Some(bytes) = firmware.bytes(at, length) else {
            warn!("ACPI: table {name} at {at:#x} goes beyond the end of memory; it is left out");
            return None;
        };
        let sum = sum(bytes);
        if sum != 0 {
            warn!(
                "ACPI: the bytes of table {name} add up to {sum:#04x} instead of 0; it is used as it is"
            );
        }
        Some(Self { bytes })
    }

    /// Its four letters.
    pub fn signature(&self) -> &'a [u8] {
        self.bytes.get(..4).unwrap_or_default()
    }

    /// The number at `offset`.
    pub fn field<T: Field>(&self, offset: usize) -> Option<T> {
        field(self.bytes, offset)
    }
}

/// All tables that the root names, but the DSDT, which the FADT does.
pub struct Tables<'a>(Vec<Table<'a>>);

impl<'a> Tables<'a> {
    /// Those of the XSDT, or of the RSDT where there is no usable XSDT.
    pub fn read(firmware: &'a impl Firmware, roots: Roots) -> Self {
        let wide = roots
            .xsdt
            .and_then(|at| Self::named_by(firmware, at, b"XSDT"));
        let narrow = || {
            roots
                .rsdt
                .and_then(|at| Self::named_by(firmware, at, b"RSDT"))
        };
        Self(wide.or_else(narrow).unwrap_or_default())
    }

    fn named_by(firmware: &'a impl Firmware, at: u64, signature: &[u8]) -> Option<Vec<Table<'a>>> {
        let root = Table::find(firmware, at)?;
        if root.signature() != signature {
            let found = root.signature().escape_ascii();
            warn!(
                "ACPI: there is {found} where {} should be",
                signature.escape_ascii()
            );
            return None;
        }
        let entries = root.bytes.get(HEADER_BYTES..)?;
        let wide = signature == b"XSDT";
        let addresses = entries.chunks_exact(if wide { 8 } else { 4 }).map(|entry| {
            let narrow = field::<u32>(entry, 0).map(u64::from);
            if wide { field(entry, 0) } else { narrow }.unwrap_or_default()
        });
        let found: Vec<_> = addresses
            .filter(|at| *at != 0)
            .take(MAX_TABLES)
            .filter_map(|at| Table::find(firmware, at))
            .collect();
        // A root that leads nowhere is no better than none.
        (!found.is_empty()).then_some(found)
    }

    /// Those with this signature.
    pub fn all(&self, signature: &'static [u8; 4]) -> impl Iterator<Item = Table<'a>> {
        let named = move |table: &&Table<'a>| table.signature() == signature;
        self.0.iter().filter(named).copied()
    }

    /// The first one with this signature.
    pub fn find(&self, signature: &'static [u8; 4]) -> Option<Table<'a>> {
        self.all(signature).next()
    }
}
