//! When does GRUB jump? A copy of a multiboot2 kernel whose first instructions print the time-stamp counter
//! and halt: GRUB works as long on it as on the original.

use anyhow::{Context, Result, bail, ensure};
use elf::ElfBytes;
use elf::abi::PT_LOAD;
use elf::endian::AnyEndian;

/// 32-bit code: reads the counter, prints it on COM1 (which GRUB has set up) as 16 hexadecimal
/// digits, halts.
const PRINT_TSC: [u8; 57] = [
    0x0f, 0x31, // rdtsc
    0x89, 0xc6, // mov esi, eax
    0x89, 0xd7, // mov edi, edx
    0xbb, 0x10, 0, 0, 0, // mov ebx, 16
    0x89, 0xf9, // digit: mov ecx, edi
    0xc1, 0xe9, 0x1c, // shr ecx, 28
    0x0f, 0xa4, 0xf7, 0x04, // shld edi, esi, 4
    0xc1, 0xe6, 0x04, // shl esi, 4
    0x80, 0xc1, 0x30, // add cl, '0'
    0x80, 0xf9, 0x39, // cmp cl, '9'
    0x76, 0x03, // jbe ready
    0x80, 0xc1, 0x27, // add cl, 'a' - '0' - 10
    0x66, 0xba, 0xfd, 0x03, // ready: mov dx, 0x3fd
    0xec, // wait: in al, dx
    0xa8, 0x20, // test al, 0x20
    0x74, 0xfb, // jz wait
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0x88, 0xc8, // mov al, cl
    0xee, // out dx, al
    0x4b, // dec ebx
    0x75, 0xd6, // jnz digit
    0xfa, // halt: cli
    0xf4, // hlt
    0xeb, 0xfc, // jmp halt
];

const HEADER_MAGIC: u32 = 0xe852_50d6;
/// Where a multiboot2 header may lie (specification 3.1).
const HEADER_REACH: usize = 32768;
/// Header tag: entry address, physical.
const TAG_ENTRY: u16 = 3;

/// The kernel with the printing code at its entry.
///
/// # Errors
/// When `kernel` is no multiboot2 ELF.
pub fn marked(kernel: &[u8]) -> Result<Vec<u8>> {
    let header = header_range(kernel).context("no multiboot2 header")?;
    let tag = entry_tag(&kernel[header.clone()]);
    let mut start = entry_offset(kernel, tag)?;
    while let Some(target) = jump_target(kernel, start) {
        start = target;
    }
    let place = start..start + PRINT_TSC.len();
    ensure!(
        place.end <= header.start || header.end <= place.start,
        "the entry lies in the multiboot2 header"
    );
    let mut copy = kernel.to_vec();
    let code = copy
        .get_mut(place)
        .context("the entry lies outside the file")?;
    code.copy_from_slice(&PRINT_TSC);
    Ok(copy)
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn header_range(kernel: &[u8]) -> Option<std::ops::Range<usize>> {
    let reach = kernel.len().min(HEADER_REACH);
    let start = (0..reach).step_by(8).find(|at| {
        let words: Option<Vec<u32>> = (0..4).map(|n| word(kernel, at + 4 * n)).collect();
        words.is_some_and(|words| {
            words[0] == HEADER_MAGIC
                && words.iter().fold(0, |sum: u32, it| sum.wrapping_add(*it)) == 0
        })
    })?;
    let length = usize::try_from(word(kernel, start + 8)?).ok()?;
    (start + length <= kernel.len()).then_some(start..start + length)
}

/// The physical entry address that the header names, if it does.
fn entry_tag(header: &[u8]) -> Option<u64> {
    let mut at = 16;
    while let (Some(kind), Some(size)) = (word(header, at), word(header, at + 4)) {
        if kind & 0xffff == u32::from(TAG_ENTRY) {
            return word(header, at + 8).map(u64::from);
        }
        at += usize::try_from(size.max(8)).ok()?.next_multiple_of(8);
    }
    None
}

/// The file offset of the entry: physical where the header names it, else the ELF's virtual one.
fn entry_offset(kernel: &[u8], tag: Option<u64>) -> Result<usize> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(kernel)?;
    let segments = file.segments().context("no program headers")?;
    for segment in segments.iter().filter(|it| it.p_type == PT_LOAD) {
        let (base, entry) = match tag {
            Some(physical) => (segment.p_paddr, physical),
            None => (segment.p_vaddr, file.ehdr.e_entry),
        };
        if (base..base.saturating_add(segment.p_filesz)).contains(&entry) {
            return Ok(usize::try_from(segment.p_offset + (entry - base))?);
        }
    }
    bail!("the entry lies in no segment")
}

/// Where an unconditional relative jump at `offset` leads.
fn jump_target(kernel: &[u8], offset: usize) -> Option<usize> {
    let (length, distance) = match kernel.get(offset)? {
        0xe9 => (5, word(kernel, offset + 1)?.cast_signed()),
        0xeb => (2, i32::from(kernel.get(offset + 1)?.cast_signed())),
        _ => return None,
    };
    (offset + length).checked_add_signed(isize::try_from(distance).ok()?)
}
