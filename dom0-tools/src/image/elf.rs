//! Little-endian x86 ELF files of both classes: the program headers, sections and notes that a kernel image needs
//! (gABI chapters 4, 5).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use guest_pv_abi::Width;

use super::bytes::{slice, u16_at, u32_at};
use super::class::{Class, NARROW, WIDE};

const EM_X86_64: u16 = 62;
const EM_386: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_NOTE: u32 = 7;
const SHT_NOBITS: u32 = 8;
/// Size of `e_ident`, `e_type` and `e_machine`, which tell the class of the rest.
const IDENT_BYTES: usize = 20;
/// Maximum number of program headers, and of section headers. Kernels have far fewer.
const MAX_HEADERS: u16 = 4096;

/// A part of the file that is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its physical address, as given in the file.
    pub paddr: u64,
    /// Range of its bytes in the file.
    pub file: Range<usize>,
    /// Size in memory, in bytes. Bytes beyond those in the file are zero.
    pub memory_bytes: u64,
}

/// The parts of an ELF file that a kernel image needs.
#[derive(Debug)]
pub(super) struct Elf<'a> {
    pub(super) class: &'static Class,
    pub(super) entry: u64,
    pub(super) segments: Vec<Segment>,
    /// Contents of the note segments.
    pub(super) note_segments: Vec<&'a [u8]>,
    /// Contents of the note sections. The linker may not have made a segment of them, or only of a build id's.
    pub(super) note_sections: Vec<&'a [u8]>,
    /// Contents of the section `__xen_guest`.
    pub(super) xen_guest: Option<&'a [u8]>,
    /// The ELF header of the file.
    pub(super) header: &'a [u8],
    /// The symbol table and its strings, if both are complete.
    pub(super) symbols: Option<[Section<'a>; 2]>,
}

pub(super) fn is(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// Reads the headers of a file.
///
/// # Errors
/// A message about the fault.
pub(super) fn parse(bytes: &[u8]) -> Result<Elf<'_>, String> {
    let cut = || "truncated ELF file: its header is cut off".to_string();
    let class = class(bytes.get(..IDENT_BYTES).ok_or_else(cut)?)?;
    let header = bytes.get(..class.header_bytes).ok_or_else(cut)?;
    let (segments, note_segments) = program_headers(class, bytes, header)?;
    let sections = sections(class, bytes, header);
    let note_sections = sections
        .iter()
        .filter(|section| section.kind == SHT_NOTE)
        .map(|section| section.bytes)
        .collect();
    let xen_guest = sections
        .iter()
        .find(|section| section.name == b"__xen_guest");
    Ok(Elf {
        class,
        entry: class.word(header, 24),
        segments,
        note_segments,
        note_sections,
        xen_guest: xen_guest.map(|section| section.bytes),
        header,
        symbols: symbols(class, &sections),
    })
}

/// The first symbol table, with the string table that it names.
fn symbols<'a>(class: &Class, sections: &[Section<'a>]) -> Option<[Section<'a>; 2]> {
    let [_, size] = class.section;
    let tables = sections.iter().filter(|section| section.kind == SHT_SYMTAB);
    let mut pairs = tables.filter_map(|table| {
        let strings = sections.get(u32_at(table.header, class.link)? as usize)?;
        (strings.kind == SHT_STRTAB).then_some([*table, *strings])
    });
    let whole = |section: &Section| class.word(section.header, size) == section.bytes.len() as u64;
    pairs.next().filter(|pair| pair.iter().all(whole))
}

/// The class of a file for x86, from the start of its header.
fn class(header: &[u8]) -> Result<&'static Class, String> {
    let machine = u16_at(header, 18).unwrap_or(0);
    let class = match header.get(4..6) {
        Some([1, 1]) => &NARROW,
        Some([2, 1]) => &WIDE,
        _ => return Err("ELF file of an unknown class or byte order".to_string()),
    };
    match (class.width, machine) {
        (Width::Wide, EM_X86_64) | (Width::Narrow, EM_386) => {}
        (_, EM_X86_64 | EM_386) => {
            return Err("ELF file whose class and machine contradict each other".to_string());
        }
        _ => {
            return Err(format!(
                "ELF file for another machine (number {machine}), not x86"
            ));
        }
    }
    let kind = u16_at(header, 16).unwrap_or(0);
    if !matches!(kind, 2 | 3) {
        return Err(format!("ELF file of type {kind} is not executable"));
    }
    Ok(class)
}

/// The entries of a table of headers, as slices.
fn table(bytes: &[u8], at: u64, count: u16, entry: u16) -> Option<impl Iterator<Item = &[u8]>> {
    let all = slice(bytes, at, u64::from(count) * u64::from(entry))?;
    Some(all.chunks_exact(usize::from(entry)))
}

fn program_headers<'a>(
    class: &Class,
    bytes: &'a [u8],
    header: &[u8],
) -> Result<(Vec<Segment>, Vec<&'a [u8]>), String> {
    let [at, _] = class.tables.map(|at| class.word(header, at));
    let [entry, count] = [2, 4].map(|at| u16_at(header, class.sizes + at).unwrap_or(0));
    if count == 0 || count > MAX_HEADERS || entry < class.phdr_bytes {
        return Err(format!(
            "ELF file with {count} program headers of {entry} bytes"
        ));
    }
    let table = table(bytes, at, count, entry);
    let table = table.ok_or("truncated ELF file: its program headers are cut off")?;
    let (mut segments, mut notes) = (Vec::new(), Vec::new());
    for (number, header) in table.enumerate() {
        let kind = u32_at(header, 0).unwrap_or(0);
        let [offset, paddr, file_bytes, memory_bytes] =
            class.segment.map(|at| class.word(header, at));
        if kind == PT_NOTE {
            notes.extend(slice(bytes, offset, file_bytes));
        }
        if kind != PT_LOAD || memory_bytes == 0 {
            continue;
        }
        if file_bytes > memory_bytes {
            return Err(format!(
                "ELF segment {number} has more bytes in the file than in memory"
            ));
        }
        let Some(file) = slice(bytes, offset, file_bytes) else {
            let end = offset.saturating_add(file_bytes);
            let have = bytes.len();
            return Err(format!(
                "truncated ELF file: segment {number} ends at byte {end}, the file has {have}"
            ));
        };
        if paddr.checked_add(memory_bytes).is_none() {
            return Err(format!(
                "ELF segment {number} runs past the end of the address space"
            ));
        }
        let start = offset as usize;
        segments.push(Segment {
            paddr,
            file: start..start + file.len(),
            memory_bytes,
        });
    }
    if segments.is_empty() {
        return Err("ELF file without anything to load".to_string());
    }
    Ok((segments, notes))
}

/// A section of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'a> {
    name: &'a [u8],
    kind: u32,
    /// The section's header.
    pub(super) header: &'a [u8],
    pub(super) bytes: &'a [u8],
}

/// The sections whose contents are inside the file. A damaged section table counts as empty, because
/// loading doesn't need it.
fn sections<'a>(class: &Class, bytes: &'a [u8], header: &[u8]) -> Vec<Section<'a>> {
    let [_, at] = class.tables.map(|at| class.word(header, at));
    let [entry, count, names] = [6, 8, 10].map(|at| u16_at(header, class.sizes + at).unwrap_or(0));
    if count > MAX_HEADERS || entry < class.shdr_bytes {
        return Vec::new();
    }
    let Some(table) = table(bytes, at, count, entry) else {
        return Vec::new();
    };
    let mut all: Vec<Section> = table
        .map(|header| {
            let kind = u32_at(header, 4).unwrap_or(0);
            let [offset, len] = class.section.map(|at| class.word(header, at));
            let held = if kind == SHT_NOBITS { 0 } else { len };
            Section {
                name: &[],
                kind,
                header,
                bytes: slice(bytes, offset, held).unwrap_or_default(),
            }
        })
        .collect();
    let names = all
        .get(usize::from(names))
        .map_or(&[][..], |section| section.bytes);
    for section in &mut all {
        let at = u32_at(section.header, 0).unwrap_or(0);
        let name = names.get(at as usize..).unwrap_or_default();
        section.name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    }
    all
}

/// An ELF note: owner, type and value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Note<'a> {
    pub(super) owner: &'a [u8],
    pub(super) kind: u32,
    pub(super) value: &'a [u8],
}

/// The notes in `bytes`, up to the first damaged one. The value of the last may be longer than the rest of the bytes, which
/// is then the value: GRUB's 32-bit image has such a note.
pub(super) fn notes(mut bytes: &[u8]) -> impl Iterator<Item = Note<'_>> {
    core::iter::from_fn(move || {
        let owner_len = u32_at(bytes, 0)?;
        let value_len = u32_at(bytes, 4)?;
        let kind = u32_at(bytes, 8)?;
        let value_at = 12 + u64::from(owner_len).next_multiple_of(4);
        let owner = slice(bytes, 12, u64::from(owner_len))?;
        let rest = bytes.get(usize::try_from(value_at).ok()?..)?;
        let value = slice(rest, 0, u64::from(value_len)).unwrap_or(rest);
        let next = value_at + u64::from(value_len).next_multiple_of(4);
        bytes = usize::try_from(next)
            .ok()
            .and_then(|next| bytes.get(next..))
            .unwrap_or_default();
        let owner = owner.strip_suffix(&[0]).unwrap_or(owner);
        Some(Note { owner, kind, value })
    })
}
