//! Linux bzImages. The setup header tells where the compressed kernel is (Documentation/arch/x86/boot.rst,
//! protocol 2.08 and later).

use alloc::format;
use alloc::string::String;

use super::bytes::{array, slice, u16_at, u32_at};

/// Offsets of the setup header's fields in the file.
const SETUP_SECTS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// Whether the file starts with a Linux setup header.
pub(super) fn is(bytes: &[u8]) -> bool {
    array(bytes, MAGIC) == Some(*b"HdrS")
}

/// The compressed kernel, including the 4 bytes at its end that hold the unpacked size.
pub(super) fn payload(bytes: &[u8]) -> Result<&[u8], String> {
    let truncated = || String::from("truncated bzImage: its setup header is cut off");
    let version = u16_at(bytes, VERSION).ok_or_else(truncated)?;
    if version < 0x0208 {
        let (major, minor) = (version >> 8, version & 0xff);
        return Err(format!(
            "bzImage of boot protocol {major}.{minor:02}: 2.08 or later is needed to find the kernel in it"
        ));
    }
    let sectors = match *bytes.get(SETUP_SECTS).ok_or_else(truncated)? {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let offset = u64::from(u32_at(bytes, PAYLOAD_OFFSET).ok_or_else(truncated)?);
    let length = u64::from(u32_at(bytes, PAYLOAD_LENGTH).ok_or_else(truncated)?);
    let start = (sectors + 1) * 512 + offset;
    if length < 8 {
        return Err(format!("bzImage without a payload (length {length})"));
    }
    slice(bytes, start, length).ok_or_else(|| {
        let have = bytes.len();
        format!(
            "truncated bzImage: its payload ends at byte {}, the file has {have}",
            start + length
        )
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// Makes a bzImage of a payload.
    pub fn wrap(payload: &[u8]) -> Vec<u8> {
        let mut file = vec![0u8; 1024];
        file[SETUP_SECTS] = 1;
        file[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        file[VERSION..VERSION + 2].copy_from_slice(&0x020f_u16.to_le_bytes());
        file[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&16_u32.to_le_bytes());
        file[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4]
            .copy_from_slice(&(payload.len() as u32).to_le_bytes());
        file.resize(1024 + 16, 0xcc);
        file.extend_from_slice(payload);
        file
    }

    #[test]
    fn finds_the_payload() {
        let file = wrap(b"a compressed kernel");
        assert!(is(&file));
        assert_eq!(payload(&file).unwrap(), b"a compressed kernel");
    }

    #[test]
    fn every_truncation_is_told() {
        let file = wrap(b"a compressed kernel");
        for len in 0x206..file.len() {
            let fault = payload(&file[..len]).unwrap_err();
            assert!(fault.contains("truncated"), "{len}: {fault}");
        }
    }

    #[test]
    fn old_protocols_are_refused() {
        let mut file = wrap(b"a compressed kernel");
        file[VERSION] = 0x07;
        assert!(
            payload(&file)
                .unwrap_err()
                .starts_with("bzImage of boot protocol 2.07")
        );
    }

    proptest! {
        #[test]
        fn never_panics(at in 0x1f0_usize..0x260, byte: u8, len in 0_usize..1200) {
            let mut file = wrap(&[7; 100]);
            file[at] = byte;
            let _ = payload(&file[..len.min(file.len())]);
        }
    }
}
