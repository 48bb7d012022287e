//! The boot domain as a flat image. The build fixes its layout, so that ring 0 doesn't parse ELF files.
//!
//! The image is a 64-byte header of little-endian words (magic, virtual base, entry, pages including bss,
//! address of the hypercall page or 0, three reserved), then the bytes from the virtual base on. The rest of the
//! image's pages is zero.

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use elf::ElfBytes;
use elf::abi::{PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::note::Note;
use std::fs;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"XLBOOTDM";
const PAGE: u64 = 4096;
/// Maximum size of an image in bytes, so that a bad ELF can't fill the disk.
const MAX_BYTES: u64 = 64 << 20;

/// Xen's ELF note types (public/elfnote.h).
const XEN_ELFNOTE_ENTRY: u64 = 1;
const XEN_ELFNOTE_HYPERCALL_PAGE: u64 = 2;

/// Options of `xtask flatten`.
#[derive(Args)]
pub struct Options {
    /// The boot domain's ELF
    pub elf: PathBuf,
    /// Where the flat image goes
    pub image: PathBuf,
}

/// Converts the ELF at `from` to a flat image at `to`. An identical image is left untouched.
///
/// # Errors
/// If the file isn't an ELF, or can't be laid out flat.
pub fn flatten(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| from.display().to_string())?;
    let image = flat_image(&bytes).with_context(|| from.display().to_string())?;
    if fs::read(to).is_ok_and(|existing| existing == image) {
        return Ok(());
    }
    fs::write(to, image).with_context(|| to.display().to_string())
}

fn flat_image(bytes: &[u8]) -> Result<Vec<u8>> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(bytes)?;
    let segments = file.segments().context("no program headers")?;
    let loads = || {
        segments
            .iter()
            .filter(|it| it.p_type == PT_LOAD && it.p_memsz > 0)
    };
    let base = loads()
        .map(|it| it.p_vaddr)
        .min()
        .context("nothing to load")?
        / PAGE
        * PAGE;
    let end = loads()
        .filter_map(|it| it.p_vaddr.checked_add(it.p_memsz))
        .max();
    let end = end.context("a segment wraps around")?;
    let pages = (end - base).div_ceil(PAGE);
    ensure!(pages * PAGE <= MAX_BYTES, "too large: {pages} pages");
    let entry = note(&file, XEN_ELFNOTE_ENTRY)?.unwrap_or(file.ehdr.e_entry);
    ensure!(
        (base..end).contains(&entry),
        "entry {entry:#x} lies outside the image"
    );
    let hypercall_page = note(&file, XEN_ELFNOTE_HYPERCALL_PAGE)?.unwrap_or(0);

    let mut image = MAGIC.to_vec();
    for word in [base, entry, pages, hypercall_page, 0, 0, 0] {
        image.extend_from_slice(&word.to_le_bytes());
    }
    let header = image.len();
    for segment in loads() {
        let data = file.segment_data(&segment)?;
        let start = header + usize::try_from(segment.p_vaddr - base)?;
        if image.len() < start + data.len() {
            image.resize(start + data.len(), 0);
        }
        let place = image.get_mut(start..start + data.len());
        place
            .context("segment outside the image")?
            .copy_from_slice(data);
    }
    Ok(image)
}

/// The value of one of Xen's numeric notes.
fn note(file: &ElfBytes<'_, LittleEndian>, wanted: u64) -> Result<Option<u64>> {
    let segments = file.segments().context("no program headers")?;
    for segment in segments.iter().filter(|it| it.p_type == PT_NOTE) {
        for note in file.segment_data_as_notes(&segment)? {
            let Note::Unknown(any) = note else { continue };
            if any.n_type == wanted && any.name.starts_with(b"Xen") {
                return number(any.desc).map(Some);
            }
        }
    }
    Ok(None)
}

fn number(bytes: &[u8]) -> Result<u64> {
    match bytes.len() {
        4 => Ok(u32::from_le_bytes(bytes.try_into()?).into()),
        8 => Ok(u64::from_le_bytes(bytes.try_into()?)),
        other => bail!("a numeric Xen note of {other} bytes"),
    }
}
