//! An ACPI table as bytes of the firmware, and the list of all tables. Everything that a table states is checked before
//! it is used: lengths, addresses, counts.

use alloc::vec::Vec;
use log::{info, warn};

use super::fadt::Fadt;
use super::rsdp::Roots;
use crate::boot::info::Range;
use crate::life::hardware_domain::AcpiTable;

/// The size in bytes of the header that every table has (ACPI 6.5 §5.2.6).
pub const HEADER_BYTES: usize = 36;
/// The size in bytes above which a table is not mapped; no table is as large.
const MAX_TABLE_BYTES: usize = 16 << 20;
/// The number of tables that are looked at.
const MAX_TABLES: usize = 128;

/// The machine's memory, as the tables refer to it.
pub trait Firmware {
    /// The `bytes` bytes at `at`; `None` if this machine can't have memory there.
    fn bytes(&self, at: u64, bytes: usize) -> Option<&[u8]>;

    /// Whether this machine has these addresses: bits beyond its physical address width are reserved in page tables.
    fn reaches(&self, at: u64, bytes: u64) -> bool;

    /// Whether there is RAM at `at`.
    fn is_ram(&self, at: u64) -> bool;

    /// Whether a device can have its registers there. Writes to them must never hit RAM.
    fn can_be_device(&self, at: u64, bytes: u64) -> bool {
        self.reaches(at, bytes) && !self.is_ram(at)
    }
}

/// A little-endian number in a table.
pub trait Field: Sized {
    /// The number at `offset`, or `None` beyond the end of the bytes.
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

/// The number at `offset` of `bytes`, or `None` beyond their end.
pub fn field<T: Field>(bytes: &[u8], offset: usize) -> Option<T> {
    T::at(bytes, offset)
}

/// The sum of the bytes, which is 0 in an intact table.
pub fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A table with its header.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// The bytes of the table, header included.
    pub bytes: &'a [u8],
}

impl<'a> Table<'a> {
    /// The table at `at`, if its header states a plausible length. A wrong checksum only causes a warning: firmware
    /// gets it wrong, and without its tables the machine would be of no use.
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
        let (sum, table) = (sum(bytes), Self { bytes });
        if sum != 0 && table.is_read() {
            warn!(
                "ACPI: the bytes of table {name} add up to {sum:#04x} instead of 0; it is used as it is"
            );
        } else if sum != 0 {
            info!("ACPI: the bytes of table {name} add up to {sum:#04x} instead of 0");
        }
        Some(table)
    }

    /// Whether the core reads tables of this kind. Vendors' own tables often have wrong checksums, which don't matter.
    fn is_read(&self) -> bool {
        let read = [
            b"RSDT", b"XSDT", b"FACP", b"APIC", b"HPET", b"DSDT", b"SSDT",
        ];
        read.iter().any(|name| self.signature() == *name)
    }

    /// The signature of the table: four letters.
    pub fn signature(&self) -> &'a [u8] {
        self.bytes.get(..4).unwrap_or_default()
    }

    /// The number at `offset` of the table.
    pub fn field<T: Field>(&self, offset: usize) -> Option<T> {
        field(self.bytes, offset)
    }
}

/// The addresses in a list of tables.
fn addresses(root: &[u8]) -> impl Iterator<Item = u64> {
    let wide = root.starts_with(b"XSDT");
    let entries = root.get(HEADER_BYTES..).unwrap_or_default();
    let addresses = entries.chunks_exact(if wide { 8 } else { 4 });
    let addresses = addresses.map(move |entry| {
        let narrow = field::<u32>(entry, 0).map(u64::from);
        if wide { field(entry, 0) } else { narrow }.unwrap_or_default()
    });
    addresses.filter(|at| *at != 0).take(MAX_TABLES)
}

/// The places of everything that looks like a table. Domain 0 reads the tables too, so their memory must be preserved.
pub fn places(firmware: &impl Firmware, roots: Roots) -> Vec<Range> {
    let mut places = Vec::new();
    let mut look = |at: u64| {
        let header = firmware.bytes(at, HEADER_BYTES)?;
        let length = field::<u32>(header, 4)? as usize;
        let is_letter = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        let is_table = header.get(..4)?.iter().all(is_letter)
            && (HEADER_BYTES..=MAX_TABLE_BYTES).contains(&length);
        let bytes = firmware.bytes(at, length).filter(|_| is_table)?;
        places.push(Range {
            start: at,
            end: at.checked_add(length as u64)?,
        });
        Some(bytes)
    };
    for root in [roots.xsdt, roots.rsdt].into_iter().flatten() {
        for at in look(root).into_iter().flat_map(addresses) {
            let fadt = look(at).filter(|table| table.starts_with(b"FACP"));
            for at in fadt
                .into_iter()
                .flat_map(|bytes| Fadt(Table { bytes }).others())
            {
                look(at);
            }
        }
    }
    places
}

/// All tables that a root lists. The DSDT isn't among them: the FADT has its address.
pub struct Tables<'a>(Vec<Table<'a>>);

impl<'a> Tables<'a> {
    /// Reads the tables that the XSDT lists. If the MADT or the FADT isn't among them, adds those
    /// that only the RSDT lists.
    pub fn read(firmware: &'a impl Firmware, roots: Roots) -> Self {
        let named_by = |root: Option<u64>, signature| {
            let tables = root.and_then(|at| Self::named_by(firmware, at, signature));
            tables.unwrap_or_default()
        };
        let mut tables = Self(named_by(roots.xsdt, b"XSDT"));
        if [b"APIC", b"FACP"]
            .into_iter()
            .any(|name| tables.find(name).is_none())
        {
            let mut more = named_by(roots.rsdt, b"RSDT");
            more.retain(|table| tables.0.iter().all(|t| t.signature() != table.signature()));
            if !tables.0.is_empty() && !more.is_empty() {
                warn!("ACPI: the XSDT lacks tables that the RSDT has; both are used");
            }
            tables.0.append(&mut more);
        }
        tables
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
        let tables = addresses(root.bytes).filter_map(|at| Table::find(firmware, at));
        Some(tables.collect())
    }

    /// A summary of each table, for reports.
    pub fn report(&self) -> Vec<AcpiTable> {
        let report = |table: &Table<'_>| AcpiTable {
            signature: table.field::<u32>(0).unwrap_or_default().to_le_bytes(),
            bytes: table.bytes.len(),
            sum: sum(table.bytes),
        };
        self.0.iter().map(report).collect()
    }

    /// All tables with this signature.
    pub fn all(&self, signature: &'static [u8; 4]) -> impl Iterator<Item = Table<'a>> {
        let named = move |table: &&Table<'a>| table.signature() == signature;
        self.0.iter().filter(named).copied()
    }

    /// The first table with this signature.
    pub fn find(&self, signature: &'static [u8; 4]) -> Option<Table<'a>> {
        self.all(signature).next()
    }
}
