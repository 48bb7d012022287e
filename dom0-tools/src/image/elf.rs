//! 64-bit little-endian ELF files: the program headers, sections and notes that a kernel image needs
//! (gABI chapters 4, 5).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use super::bytes::{slice, u16_at, u32_at, u64_at};

const EM_X86_64: u16 = 62;
const EM_386: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_NOTE: u32 = 7;
const SHT_NOBITS: u32 = 8;
const EHDR_BYTES: usize = 64;
const PHDR_BYTES: u16 = 56;
const SHDR_BYTES: u16 = 64;
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
    let header = bytes
        .get(..EHDR_BYTES)
        .ok_or("truncated ELF file: its header is cut off")?;
    check_header(header)?;
    let cut = || "truncated ELF file: its header is cut off".to_string();
    let (segments, note_segments) = program_headers(bytes, header)?;
    let sections = sections(bytes, header);
    let note_sections = sections
        .iter()
        .filter(|section| section.kind == SHT_NOTE)
        .map(|section| section.bytes)
        .collect();
    let xen_guest = sections
        .iter()
        .find(|section| section.name == b"__xen_guest");
    Ok(Elf {
        entry: u64_at(header, 24).ok_or_else(cut)?,
        segments,
        note_segments,
        note_sections,
        xen_guest: xen_guest.map(|section| section.bytes),
        header,
        symbols: symbols(&sections),
    })
}

/// The first symbol table, with the string table that it names.
fn symbols<'a>(sections: &[Section<'a>]) -> Option<[Section<'a>; 2]> {
    let tables = sections.iter().filter(|section| section.kind == SHT_SYMTAB);
    let mut pairs = tables.filter_map(|table| {
        let strings = sections.get(u32_at(table.header, 40)? as usize)?;
        (strings.kind == SHT_STRTAB).then_some([*table, *strings])
    });
    let whole = |section: &Section| u64_at(section.header, 32) == Some(section.bytes.len() as u64);
    pairs.next().filter(|pair| pair.iter().all(whole))
}

fn check_header(header: &[u8]) -> Result<(), String> {
    let machine = u16_at(header, 18).unwrap_or(0);
    if header.get(4) == Some(&1) || machine == EM_386 {
        return Err("a 32-bit kernel; only 64-bit PV kernels can run".to_string());
    }
    if header.get(4..6) != Some(&[2, 1]) {
        return Err("ELF file of an unknown class or byte order".to_string());
    }
    if machine != EM_X86_64 {
        return Err(format!(
            "ELF file for another machine (number {machine}), not x86-64"
        ));
    }
    let kind = u16_at(header, 16).unwrap_or(0);
    if !matches!(kind, 2 | 3) {
        return Err(format!("ELF file of type {kind} is not executable"));
    }
    Ok(())
}

/// The entries of a table of headers, as slices.
fn table(bytes: &[u8], at: u64, count: u16, entry: u16) -> Option<impl Iterator<Item = &[u8]>> {
    let all = slice(bytes, at, u64::from(count) * u64::from(entry))?;
    Some(all.chunks_exact(usize::from(entry)))
}

fn program_headers<'a>(
    bytes: &'a [u8],
    header: &[u8],
) -> Result<(Vec<Segment>, Vec<&'a [u8]>), String> {
    let at = u64_at(header, 32).unwrap_or(0);
    let entry = u16_at(header, 54).unwrap_or(0);
    let count = u16_at(header, 56).unwrap_or(0);
    if count == 0 || count > MAX_HEADERS || entry < PHDR_BYTES {
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
            [8, 24, 32, 40].map(|at| u64_at(header, at).unwrap_or(0));
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
fn sections<'a>(bytes: &'a [u8], header: &[u8]) -> Vec<Section<'a>> {
    let at = u64_at(header, 40).unwrap_or(0);
    let [entry, count, names] = [58, 60, 62].map(|at| u16_at(header, at).unwrap_or(0));
    if count > MAX_HEADERS || entry < SHDR_BYTES {
        return Vec::new();
    }
    let Some(table) = table(bytes, at, count, entry) else {
        return Vec::new();
    };
    let mut all: Vec<Section> = table
        .map(|header| {
            let kind = u32_at(header, 4).unwrap_or(0);
            let [offset, len] = [24, 32].map(|at| u64_at(header, at).unwrap_or(0));
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

/// The notes in `bytes`, up to the first damaged one.
pub(super) fn notes(mut bytes: &[u8]) -> impl Iterator<Item = Note<'_>> {
    core::iter::from_fn(move || {
        let owner_len = u32_at(bytes, 0)?;
        let value_len = u32_at(bytes, 4)?;
        let kind = u32_at(bytes, 8)?;
        let value_at = 12 + u64::from(owner_len).next_multiple_of(4);
        let owner = slice(bytes, 12, u64::from(owner_len))?;
        let value = slice(bytes, value_at, u64::from(value_len))?;
        let next = value_at + u64::from(value_len).next_multiple_of(4);
        bytes = usize::try_from(next)
            .ok()
            .and_then(|next| bytes.get(next..))
            .unwrap_or_default();
        let owner = owner.strip_suffix(&[0]).unwrap_or(owner);
        Some(Note { owner, kind, value })
    })
}
