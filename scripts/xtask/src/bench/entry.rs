//! Finds the entry point of a multiboot2 kernel.

use anyhow::{Context, Result};
use elf::ElfBytes;
use elf::abi::PT_LOAD;
use elf::endian::AnyEndian;

const HEADER_MAGIC: u32 = 0xe852_50d6;
/// Part of the file in which a multiboot2 header must lie (specification 3.1).
const HEADER_REACH: usize = 32768;
/// Header tags: entry address; relocatable image.
const TAG_ENTRY: u32 = 3;
const TAG_RELOCATABLE: u32 = 10;

/// The physical addresses below `memory` at which GRUB may enter the kernel: several if it can be loaded at another
/// address than it is linked for.
///
/// # Errors
/// If `kernel` isn't a multiboot2 ELF.
pub fn candidates(kernel: &[u8], memory: u64) -> Result<Vec<u64>> {
    let header = header(kernel).context("no multiboot2 header")?;
    let entry = match tag(header, TAG_ENTRY) {
        Some(body) => u64::from(word(body, 0).context("an entry tag without an address")?),
        None => physical_entry(kernel)?,
    };
    let step = tag(header, TAG_RELOCATABLE).and_then(|body| word(body, 8));
    Ok(match step.map(u64::from).filter(|step| *step > 0) {
        Some(step) => (entry..memory).step_by(usize::try_from(step)?).collect(),
        None => vec![entry],
    })
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn header(kernel: &[u8]) -> Option<&[u8]> {
    let reach = kernel.len().min(HEADER_REACH);
    let start = (0..reach).step_by(8).find(|at| {
        let words: Option<Vec<u32>> = (0..4).map(|n| word(kernel, at + 4 * n)).collect();
        words.is_some_and(|words| {
            words[0] == HEADER_MAGIC
                && words.iter().fold(0, |sum: u32, it| sum.wrapping_add(*it)) == 0
        })
    })?;
    let length = usize::try_from(word(kernel, start + 8)?).ok()?;
    kernel.get(start..start.checked_add(length)?)
}

/// The contents of a header tag.
fn tag(header: &[u8], wanted: u32) -> Option<&[u8]> {
    let mut at = 16;
    while let (Some(kind), Some(size)) = (word(header, at), word(header, at + 4)) {
        let size = usize::try_from(size.max(8)).ok()?;
        if kind & 0xffff == wanted {
            return header.get(at + 8..at + size);
        }
        at += size.next_multiple_of(8);
    }
    None
}

/// The entry address as GRUB uses it: relative to the load address of its segment.
fn physical_entry(kernel: &[u8]) -> Result<u64> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(kernel)?;
    let entry = file.ehdr.e_entry;
    let segments = file.segments().context("no program headers")?;
    let inside = |it: &elf::segment::ProgramHeader| {
        it.p_type == PT_LOAD && (it.p_vaddr..it.p_vaddr.saturating_add(it.p_memsz)).contains(&entry)
    };
    let segment = segments.iter().find(inside);
    let segment = segment.context("the entry lies in no segment")?;
    Ok(segment.p_paddr + (entry - segment.p_vaddr))
}

#[cfg(test)]
mod tests {
    use super::candidates;

    /// A header with an entry tag and, if requested, the tag of a kernel that can be loaded at any multiple of 2 MiB.
    fn kernel(relocatable: bool) -> Vec<u8> {
        let mut tags = vec![3, 12, 0x20_0040, 0];
        if relocatable {
            tags.extend([10, 24, 0x20_0000, u32::MAX, 0x20_0000, 2]);
        }
        tags.extend([0, 8]);
        let length = 16 + 4 * u32::try_from(tags.len()).expect("few");
        let magic = 0xe852_50d6_u32;
        let mut words = vec![magic, 0, length, 0_u32.wrapping_sub(magic + length)];
        words.extend(tags);
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_kernel_that_may_be_moved_has_several_entries() {
        let found = |relocatable| candidates(&kernel(relocatable), 8 << 20).expect("a header");
        assert_eq!(found(false), [0x20_0040]);
        assert_eq!(found(true), [0x20_0040, 0x40_0040, 0x60_0040]);
        assert!(candidates(b"nothing", 0).is_err());
    }
}
