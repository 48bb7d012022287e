//! cpio archives in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst). They carry the
//! shell's files where there are no boot modules, as under another hypervisor.

use alloc::vec::Vec;

const HEADER: usize = 110;
const FILE_TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// A field of the header: 8 hexadecimal digits.
fn number(header: &[u8], field: usize) -> Option<u32> {
    let digits = header.get(6 + field * 8..)?.get(..8)?;
    u32::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}

/// The regular files of an archive with their names, up to the first damaged entry.
#[must_use]
pub fn files(mut archive: &[u8]) -> Vec<(&str, &[u8])> {
    let mut files = Vec::new();
    while let Some((file, rest)) = entry(archive) {
        let (name, mode, bytes) = file;
        if name == "TRAILER!!!" {
            break;
        }
        if mode & FILE_TYPE == REGULAR {
            files.push((name.strip_prefix("./").unwrap_or(name), bytes));
        }
        archive = rest;
    }
    files
}

type Entry<'a> = (&'a str, u32, &'a [u8]);

fn entry(archive: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let header = archive.get(..HEADER)?;
    if !header.starts_with(b"070701") && !header.starts_with(b"070702") {
        return None;
    }
    let (mode, bytes) = (number(header, 1)?, number(header, 6)? as usize);
    let name_end = HEADER.checked_add(number(header, 11)? as usize)?;
    let name = archive.get(HEADER..name_end)?.strip_suffix(&[0])?;
    let start = name_end.checked_next_multiple_of(4)?;
    let end = start.checked_add(bytes)?;
    let data = archive.get(start..end)?;
    let rest = archive
        .get(end.checked_next_multiple_of(4)?..)
        .unwrap_or_default();
    Some(((core::str::from_utf8(name).ok()?, mode, data), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, mode, bytes) in files {
            let numbers = [
                1,
                *mode,
                0,
                0,
                1,
                0,
                bytes.len() as u32,
                0,
                0,
                0,
                0,
                name.len() as u32 + 1,
                0,
            ];
            archive.extend_from_slice(b"070701");
            for number in numbers {
                archive.extend_from_slice(alloc::format!("{number:08x}").as_bytes());
            }
            archive.extend_from_slice(name.as_bytes());
            archive.push(0);
            archive.resize(archive.len().next_multiple_of(4), 0);
            archive.extend_from_slice(bytes);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
        archive
    }

    #[test]
    fn lists_files() {
        let archive = pack(&[
            (".", 0o040_755, b""),
            ("./hello.cfg", 0o100_644, b"kernel='hello'"),
            ("hello", 0o100_755, b"\x7fELF"),
            ("TRAILER!!!", 0, b""),
            ("behind", 0o100_644, b"x"),
        ]);
        let wanted: [(&str, &[u8]); 2] = [("hello.cfg", b"kernel='hello'"), ("hello", b"\x7fELF")];
        assert_eq!(files(&archive), wanted);
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0_usize..200, byte: u8, len in 0_usize..300) {
            let mut archive = pack(&[("a", 0o100_644, b"abcde"), ("b", 0o100_644, b"x")]);
            if let Some(place) = archive.get_mut(at) {
                *place = byte;
            }
            archive.truncate(len);
            let _ = files(&archive);
        }
    }
}
