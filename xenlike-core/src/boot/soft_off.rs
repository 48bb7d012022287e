//! How the machine is switched off by software: ACPI's state S5. The FADT names the control ports,
//! and the DSDT holds the values as a package named `_S5_` (ACPI 6 §7.4.2.6, §16.1.7), which is
//! found by its bytes: interpreting AML is domain 0's business.

#[cfg(target_os = "none")]
pub use tables::find;

/// The sleep types of the package `_S5_` in a table's bytes: for PM1a and PM1b.
pub fn sleep_types(aml: &[u8]) -> Option<[u8; 2]> {
    const NAME: &[u8] = b"_S5_";
    const PACKAGE: u8 = 0x12;
    let at = aml.windows(NAME.len()).position(|bytes| bytes == NAME)?;
    let rest = aml.get(at + NAME.len()..)?;
    let (&PACKAGE, rest) = rest.split_first()? else {
        return None;
    };
    // The package's length: its first byte says how many more there are. Then its element count.
    let length_bytes = usize::from(rest.first()? >> 6) + 1;
    let mut rest = rest.get(length_bytes + 1..)?;
    let mut types = [0; 2];
    for value in &mut types {
        (*value, rest) = integer(rest)?;
    }
    Some(types)
}

/// A small integer (ACPI 6 §20.2.3): ZeroOp, OneOp, or a byte after BytePrefix.
fn integer(bytes: &[u8]) -> Option<(u8, &[u8])> {
    const BYTE_PREFIX: u8 = 0x0a;
    match bytes.split_first()? {
        (&BYTE_PREFIX, rest) => rest.split_first().map(|(value, rest)| (*value, rest)),
        (&value @ 0..=1, rest) => Some((value, rest)),
        _ => None,
    }
}

#[cfg(target_os = "none")]
mod tables {
    #![expect(unsafe_code, reason = "reads an ACPI table")]
    use acpi::address::{AddressSpace, GenericAddress};
    use acpi::fadt::Fadt;
    use acpi::{AcpiHandler, AcpiTables};

    use super::sleep_types;
    use crate::arch::power::SoftOff;

    /// The ports and values that switch this machine off.
    pub fn find<H: AcpiHandler>(tables: &AcpiTables<H>, handler: &H) -> Option<SoftOff> {
        let fadt = tables.find_table::<Fadt>().ok()?;
        let pm1a = port(&fadt.get().pm1a_control_block().ok()?)?;
        let pm1b = fadt
            .get()
            .pm1b_control_block()
            .ok()
            .flatten()
            .and_then(|b| port(&b));
        let dsdt = tables.dsdt().ok()?;
        let bytes = dsdt.length as usize;
        // SAFETY: the FADT says that the table is there, that long.
        let mapped = unsafe { handler.map_physical_region::<u8>(dsdt.address, bytes) };
        // SAFETY: mapped for as long as that.
        let aml = unsafe { core::slice::from_raw_parts(mapped.virtual_start().as_ptr(), bytes) };
        Some(SoftOff {
            ports: [Some(pm1a), pm1b],
            types: sleep_types(aml)?,
        })
    }

    fn port(block: &GenericAddress) -> Option<u16> {
        if matches!(block.address_space, AddressSpace::SystemIo) {
            u16::try_from(block.address).ok()
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_as_firmware_has_them() {
        // QEMU: Name (_S5, Package (4) { Zero, Zero, Zero, Zero }); a PC: { 7, 0 } and { 5, 5, 0, 0 }.
        let qemu = b"\x08_S5_\x12\x06\x04\0\0\0\0";
        let pc = b"xx\x08_S5_\x12\x08\x04\x0a\x07\x00\x00\x00";
        let long = b"\x08_S5_\x12\x4a\x00\x04\x0a\x05\x0a\x05\x00\x00";
        assert_eq!(sleep_types(qemu), Some([0, 0]));
        assert_eq!(sleep_types(pc), Some([7, 0]));
        assert_eq!(sleep_types(long), Some([5, 5]));
    }

    #[test]
    fn nonsense_is_no_package() {
        assert_eq!(sleep_types(b""), None);
        assert_eq!(sleep_types(b"_S5_"), None);
        assert_eq!(sleep_types(b"_S5_\x12\xff"), None);
        assert_eq!(sleep_types(b"_S5_\x13\x06\x04\0\0"), None);
    }
}
