//! The values for ACPI's state S5, soft off. The DSDT or an SSDT contains them in a package named `_S5_` (ACPI 6.5
//! §7.4.2, §16.1.7), which is found by its bytes. Interpreting AML is left to domain 0.

const NAME: &[u8] = b"_S5_";
/// AML's encodings (ACPI 6.5 §20.2).
const PACKAGE: u8 = 0x12;
const BYTE_PREFIX: u8 = 0x0a;
const WORD_PREFIX: u8 = 0x0b;
const DWORD_PREFIX: u8 = 0x0c;
const QWORD_PREFIX: u8 = 0x0e;
/// The highest sleep type, as it has 3 bits.
const MAX_TYPE: u8 = 7;

/// The sleep types for PM1a and PM1b in the first package `_S5_` among a table's bytes. Other uses of the name, such as
/// a reference, are skipped.
pub fn sleep_types(aml: &[u8]) -> Option<[u8; 2]> {
    let mut named = aml
        .windows(NAME.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == NAME);
    named.find_map(|(at, _)| package(aml.get(at + NAME.len()..)?))
}

/// The first two elements of a package. If there is only one, it is meant for both blocks.
fn package(bytes: &[u8]) -> Option<[u8; 2]> {
    let (&PACKAGE, rest) = bytes.split_first()? else {
        return None;
    };
    // The package's length, whose first byte says how many more bytes it has; then the number of elements.
    let length_bytes = usize::from(rest.first()? >> 6) + 1;
    let elements = *rest.get(length_bytes)?;
    let (first, rest) = integer(rest.get(length_bytes + 1..)?)?;
    let second = match elements {
        0 => return None,
        1 => first,
        _ => integer(rest)?.0,
    };
    (first <= MAX_TYPE && second <= MAX_TYPE).then_some([first, second])
}

/// Parses an integer (ACPI 6.5 §20.2.3): ZeroOp, OneOp, or a prefix and little-endian bytes. Returns its lowest byte,
/// which is the sleep type.
fn integer(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (code, rest) = bytes.split_first()?;
    let width = match *code {
        value @ 0..=1 => return Some((value, rest)),
        BYTE_PREFIX => 1,
        WORD_PREFIX => 2,
        DWORD_PREFIX => 4,
        QWORD_PREFIX => 8,
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(width)?;
    Some((*value.first()?, rest))
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
    fn other_encodings() {
        let word = b"\x08\\_S5_\x12\x0a\x04\x0b\x05\x00\x0c\x06\0\0\0\0\0";
        let quad = b"\x08_S5_\x12\x0d\x02\x0e\x07\0\0\0\0\0\0\0\x01";
        let one = b"\x08_S5_\x12\x04\x01\x0a\x05";
        assert_eq!(sleep_types(word), Some([5, 6]));
        assert_eq!(sleep_types(quad), Some([7, 1]));
        assert_eq!(sleep_types(one), Some([5, 5]));
    }

    #[test]
    fn a_mention_before_the_package_is_passed_over() {
        let mention = b"\x15\\_S5_\x04\0\x08_S5_\x12\x06\x04\x0a\x05\0\0\0";
        assert_eq!(sleep_types(mention), Some([5, 0]));
    }

    #[test]
    fn nonsense_is_no_package() {
        assert_eq!(sleep_types(b""), None);
        assert_eq!(sleep_types(b"_S5_"), None);
        assert_eq!(sleep_types(b"_S5_\x12\xff"), None);
        assert_eq!(sleep_types(b"_S5_\x13\x06\x04\0\0"), None);
        assert_eq!(sleep_types(b"_S5_\x12\x06\x04SS5ASS5B"), None);
        assert_eq!(sleep_types(b"_S5_\x12\x06\x04\x0a\x08\0\0\0"), None);
        assert_eq!(sleep_types(b"_S5_\x12\x06\0\0\0"), None);
    }
}
