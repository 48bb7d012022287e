//! AMD's microcode files: a sequence of containers. Each has a table that maps CPU signatures to equivalence ids, and
//! updates for one such id each. There is no checksum: the CPU verifies an update.

use super::{Identity, Update, word};
use crate::arch::cpu;

/// The first word of a container.
const MAGIC: u32 = 0x0041_4d44;
/// The types of sections.
const TABLE: u32 = 0;
const PATCH: u32 = 1;
/// The size in bytes of a section's header: type and length.
const SECTION_HEADER: usize = 8;
/// The size in bytes of a table entry, and of an update's header.
const ENTRY: usize = 16;
const PATCH_HEADER: usize = 64;

/// Passes the updates of a file that fit `cpu` to `found`, up to the first damage.
pub fn each<'a>(
    mut file: &'a [u8],
    cpu: &Identity,
    found: &mut impl FnMut(Update<'a>),
) -> Result<(), &'static str> {
    while !file.is_empty() {
        if word(file, 0) != Some(MAGIC) {
            return Err("a container has no mark");
        }
        let (table, rest) = section(file.get(4..).unwrap_or_default(), TABLE)
            .filter(|(table, _)| table.len().is_multiple_of(ENTRY))
            .ok_or("a container has no table of CPUs")?;
        let kind = kind_of(table, cpu.signature);
        file = rest;
        while !file.is_empty() && word(file, 0) != Some(MAGIC) {
            let (patch, rest) = section(file, PATCH)
                .filter(|(patch, _)| patch.len() >= PATCH_HEADER)
                .ok_or("an update is no update, or cut off")?;
            if kind.is_some_and(|kind| fits(patch, kind, cpu)) {
                found(Update {
                    revision: word(patch, 4).unwrap_or(0),
                    date: word(patch, 0).unwrap_or(0),
                    bytes: patch,
                });
            }
            file = rest;
        }
    }
    Ok(())
}

/// The content of the section at the start of `bytes`, if it has type `kind`, and the bytes behind it.
fn section(bytes: &[u8], kind: u32) -> Option<(&[u8], &[u8])> {
    let length = word(bytes, 4)? as usize;
    let content = bytes.get(SECTION_HEADER..)?;
    (word(bytes, 0)? == kind)
        .then(|| content.split_at_checked(length))
        .flatten()
}

/// The equivalence id of CPUs with this signature.
fn kind_of(table: &[u8], signature: u32) -> Option<u32> {
    let entries = table.chunks_exact(ENTRY);
    let mut entries = entries.take_while(|entry| word(entry, 0) != Some(0));
    let own = entries.find(|entry| word(entry, 0) == Some(signature))?;
    Some(word(own, 12)? & 0xffff)
}

/// Whether an update is for CPUs with equivalence id `kind`, not tied to a chipset, and no longer
/// than the CPU's family accepts.
fn fits(patch: &[u8], kind: u32, cpu: &Identity) -> bool {
    let chipsets = [word(patch, 16), word(patch, 20)];
    let is_for = word(patch, 24).is_some_and(|word| word & 0xffff == kind);
    is_for && chipsets == [Some(0); 2] && patch.len() <= max_bytes(cpu.signature)
}

/// The size in bytes of the longest update that a family accepts.
const fn max_bytes(signature: u32) -> usize {
    match cpu::signature(signature).family {
        0x14 => 1824,
        0x15 => 4096,
        0x16 => 3458,
        0x17 => 3200,
        0x19 => 5568,
        0x1a => 15296,
        _ => 2048,
    }
}
