//! Loads a kernel's symbols after it, for BSD kernels that ask for them (`XEN_ELFNOTE_BSD_SYMTAB`).
//!
//! The format is libelf's: a 32-bit length of the rest, then an ELF file of the kernel's class with only the symbol table
//! and its strings. It has three section headers, of which the first is empty. Offsets count from its own header.

use alloc::vec::Vec;

use super::class::Class;
use super::elf::{Elf, Segment};

/// Size of the length field in bytes.
const LENGTH: usize = 4;
const SECTIONS: usize = 3;
/// Index of the string table's section.
const STRINGS: u32 = 2;
/// The only version of ELF.
const EV_CURRENT: u32 = 1;

/// The symbols in their loaded form, which the file doesn't contain as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Symbols {
    /// Their physical address, in the same sense as a segment's.
    pub(super) paddr: u64,
    pub(super) bytes: Vec<u8>,
}

/// The symbols of `elf`, to be loaded after its segments; `None` if it has been stripped.
pub(super) fn behind(elf: &Elf) -> Option<Symbols> {
    let class = elf.class;
    let [table, strings] = elf.symbols?;
    let ends = elf.segments.iter().map(end);
    let paddr = ends.max()?.checked_next_multiple_of(class.alignment)?;
    let shdr_bytes = usize::from(class.shdr_bytes);

    let mut bytes = alloc::vec![0; LENGTH];
    bytes.extend_from_slice(elf.header);
    bytes.resize(LENGTH + class.header_bytes + shdr_bytes, 0);
    bytes.extend_from_slice(table.header.get(..shdr_bytes)?);
    bytes.extend_from_slice(strings.header.get(..shdr_bytes)?);
    let [table_at, strings_at] = [table.bytes, strings.bytes].map(|section| {
        bytes.resize(bytes.len().next_multiple_of(class.alignment as usize), 0);
        let at = bytes.len() - LENGTH;
        bytes.extend_from_slice(section);
        at as u64
    });
    let length = u32::try_from(bytes.len() - LENGTH).ok()?;

    let mut put = |at: usize, value: &[u8]| {
        if let Some(field) = bytes.get_mut(at..at + value.len()) {
            field.copy_from_slice(value);
        }
    };
    put(0, &length.to_le_bytes());
    header(class, &mut |at, value| put(LENGTH + at, value));
    let section = |number: usize| LENGTH + class.header_bytes + number * shdr_bytes;
    let [offset, _] = class.section;
    class.put_word(section(1) + offset, table_at, &mut put);
    put(section(1) + class.link, &STRINGS.to_le_bytes());
    class.put_word(section(2) + offset, strings_at, &mut put);
    Some(Symbols { paddr, bytes })
}

fn end(segment: &Segment) -> u64 {
    segment.paddr.saturating_add(segment.memory_bytes)
}

/// Writes the differences from the kernel's own ELF header: no program headers, these sections, no section names.
fn header(class: &Class, put: &mut impl FnMut(usize, &[u8])) {
    put(20, &EV_CURRENT.to_le_bytes());
    let [segments, sections] = class.tables;
    class.put_word(segments, 0, put);
    class.put_word(sections, class.header_bytes as u64, put);
    let shdr_bytes = usize::from(class.shdr_bytes);
    let halves = [class.header_bytes, 0, 0, shdr_bytes, SECTIONS, 0];
    for (n, half) in halves.into_iter().enumerate() {
        put(class.sizes + 2 * n, &(half as u16).to_le_bytes());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use guest_pv_abi::elfnote;
    use proptest::prelude::*;

    use super::super::bytes::{slice, u16_at, u32_at, u64_at};
    use super::super::tests::{kernel, linux_notes, note};
    use super::super::{Image, Part, Role};
    use super::*;

    const SHDR_BYTES: usize = 64;
    const ALIGNMENT: u64 = 8;
    const SYMTAB: u32 = 2;
    const STRTAB: u32 = 3;
    const TABLE: &[u8] = &[7; 48];
    const NAMES: &[u8] = b"\0main\0x\0";

    fn section(kind: u32, at: u64, len: u64, link: u32) -> Vec<u8> {
        let mut header = [0; SHDR_BYTES].to_vec();
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[24..32].copy_from_slice(&at.to_le_bytes());
        header[32..40].copy_from_slice(&len.to_le_bytes());
        header[40..44].copy_from_slice(&link.to_le_bytes());
        header
    }

    /// A kernel with symbols in its file. It asks for them if its note's value `wish` says so.
    fn with_symbols(wish: &[u8], link: u32) -> Vec<u8> {
        text_and_symbols(b"code", wish, link)
    }

    pub(crate) fn text_and_symbols(text: &[u8], wish: &[u8], link: u32) -> Vec<u8> {
        let wish = note(elfnote::XEN_ELFNOTE_BSD_SYMTAB, wish);
        let mut file = kernel(text, &[linux_notes(), wish].concat());
        let at = file.len() as u64;
        file.extend_from_slice(TABLE);
        file.extend_from_slice(NAMES);
        let headers_at = file.len() as u64;
        let names_at = at + TABLE.len() as u64;
        for header in [
            section(0, 0, 0, 0),
            section(STRTAB, names_at, NAMES.len() as u64, 0),
            section(SYMTAB, at, TABLE.len() as u64, link),
        ] {
            file.extend_from_slice(&header);
        }
        file[40..48].copy_from_slice(&headers_at.to_le_bytes());
        file[58..60].copy_from_slice(&64_u16.to_le_bytes());
        file[60..62].copy_from_slice(&3_u16.to_le_bytes());
        file
    }

    fn last_part(file: &[u8]) -> (u64, Vec<u8>, usize) {
        let image = Image::open("k", file).unwrap();
        let parts: Vec<Part> = image.parts().collect();
        let last = parts.last().unwrap();
        assert_eq!(last.paddr + last.memory_bytes, {
            let kernel = image.pv(Role::Guest).unwrap();
            kernel.end - kernel.virt_offset
        });
        (last.paddr, last.bytes.to_vec(), parts.len())
    }

    #[test]
    fn an_elf_file_of_symbols_lies_behind_the_kernel() {
        let (paddr, bytes, parts) = last_part(&with_symbols(b"yes\0", 1));
        assert_eq!((paddr, parts), (0x10_3000, 2));
        let file = &bytes[LENGTH..];
        assert_eq!(u32_at(&bytes, 0), Some(file.len() as u32));
        assert!(file.starts_with(b"\x7fELF\x02\x01"));
        assert_eq!((u64_at(file, 32), u64_at(file, 40)), (Some(0), Some(64)));
        let halves: Vec<_> = (0..6).map(|n| u16_at(file, 52 + 2 * n).unwrap()).collect();
        assert_eq!(halves, [64, 0, 0, 64, 3, 0]);
        let [empty, table, names] = [64, 128, 192].map(|at| &file[at..at + 64]);
        assert!(empty.iter().all(|&byte| byte == 0));
        assert_eq!(
            (u32_at(table, 4), u32_at(table, 40)),
            (Some(SYMTAB), Some(2))
        );
        assert_eq!(u32_at(names, 4), Some(STRTAB));
        for (header, wanted) in [(table, TABLE), (names, NAMES)] {
            let [at, len] = [24, 32].map(|field| u64_at(header, field).unwrap());
            assert_eq!(slice(file, at, len), Some(wanted));
            assert_eq!((paddr + LENGTH as u64 + at) % ALIGNMENT, 0);
        }
    }

    #[test]
    fn who_does_not_ask_or_has_none_gets_none() {
        assert_eq!(last_part(&with_symbols(b"no\0", 1)).2, 1);
        // The symbol table has no valid string table.
        for link in [0, 2, 3, u32::MAX] {
            assert_eq!(last_part(&with_symbols(b"yes\0", link)).2, 1);
        }
        let stripped = note(elfnote::XEN_ELFNOTE_BSD_SYMTAB, b"yes\0");
        let stripped = kernel(b"code", &[linux_notes(), stripped].concat());
        assert_eq!(last_part(&stripped).2, 1);
        let mut cut = with_symbols(b"yes\0", 1);
        // The table extends beyond the end of the file.
        let size_at = cut.len() - SHDR_BYTES + 32;
        cut[size_at..size_at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(last_part(&cut).2, 1);
    }

    proptest! {
        /// Any change of the headers ends in an error message or a kernel.
        #[test]
        fn any_headers(at in 0usize..400, byte: u8) {
            let mut file = with_symbols(b"yes\0", 1);
            let from_end = file.len() - 1 - at % file.len();
            file[from_end] = byte;
            if let Ok(image) = Image::open("k", &file) {
                let _ = image.pv(Role::Guest).map_err(|error| error.to_string());
                let loaded: usize = image.parts().map(|part| part.bytes.len()).sum();
                prop_assert!(loaded <= 3 * file.len() + 1024);
            }
        }
    }
}
