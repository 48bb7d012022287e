//! Converts the hypervisor to a 32-bit ELF, the only kind that `qemu -kernel` accepts: the same bytes at the same
//! machine addresses, with the entry point there. It has no symbols, so a backtrace has only addresses.

use anyhow::{Context, Result};
use elf::ElfBytes;
use elf::abi::{EM_386, ET_EXEC, PT_LOAD};
use elf::endian::LittleEndian;
use std::fs;
use std::path::Path;

/// Sizes of the file's header and of a program header in bytes.
const HEADER: usize = 52;
const PROGRAM_HEADER: usize = 32;
/// Alignment of a segment's bytes in the file.
const PAGE: usize = 4096;

/// Writes the 64-bit ELF at `from` as a 32-bit one to `to`.
///
/// # Errors
/// If it isn't an ELF, or has no addresses below 4 GiB.
pub fn write(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| from.display().to_string())?;
    let image = convert(&bytes).with_context(|| from.display().to_string())?;
    fs::write(to, image).with_context(|| to.display().to_string())
}

fn convert(bytes: &[u8]) -> Result<Vec<u8>> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(bytes)?;
    let loads: Vec<_> = file
        .segments()
        .context("no program headers")?
        .iter()
        .filter(|it| it.p_type == PT_LOAD)
        .collect();
    let entry = file.ehdr.e_entry;
    let entered = loads
        .iter()
        .find(|it| (it.p_vaddr..it.p_vaddr + it.p_memsz).contains(&entry))
        .context("the entry is in no segment")?;
    let machine_entry = entry - entered.p_vaddr + entered.p_paddr;
    let mut image = header(u32::try_from(machine_entry)?, u16::try_from(loads.len())?);
    let mut offset = (HEADER + PROGRAM_HEADER * loads.len()).next_multiple_of(PAGE);
    for load in &loads {
        let words = [
            u64::from(PT_LOAD),
            offset as u64,
            load.p_paddr,
            load.p_paddr,
            load.p_filesz,
            load.p_memsz,
            u64::from(load.p_flags),
            PAGE as u64,
        ];
        for word in words {
            image.extend(u32::try_from(word)?.to_le_bytes());
        }
        offset = (offset + load.p_filesz as usize).next_multiple_of(PAGE);
    }
    for load in &loads {
        image.resize(image.len().next_multiple_of(PAGE), 0);
        image.extend(file.segment_data(load)?);
    }
    Ok(image)
}

/// The file's header (System V ABI, ELF header).
fn header(entry: u32, segments: u16) -> Vec<u8> {
    let mut header = b"\x7fELF\x01\x01\x01".to_vec();
    header.resize(16, 0);
    header.extend([ET_EXEC, EM_386].map(u16::to_le_bytes).concat());
    let version = 1;
    let words = [version, entry, HEADER as u32, 0, 0];
    header.extend(words.map(u32::to_le_bytes).concat());
    let sizes = [HEADER as u16, PROGRAM_HEADER as u16, segments, 0, 0, 0];
    header.extend(sizes.map(u16::to_le_bytes).concat());
    header
}
