//! Intel's microcode files: a sequence of updates. Each has a header, data, and optionally a table of further CPUs that
//! it fits (SDM vol. 3 §10.11.1).

use super::{Identity, Update, word};

/// The size in bytes of an update's header.
pub const HEADER: usize = 48;
/// The sizes of an update whose header states none: data, and total.
const OLD_SIZES: (usize, usize) = (2000, 2048);
/// The total size of an update is a multiple of this number of bytes.
const UNIT: usize = 1024;
/// The sizes in bytes of the table's header and of an entry.
const TABLE_HEADER: usize = 20;
const ENTRY: usize = 12;

/// Passes the updates of a file that fit `cpu` to `found`, up to the first damaged one.
pub fn each<'a>(
    mut file: &'a [u8],
    cpu: &Identity,
    found: &mut impl FnMut(Update<'a>),
) -> Result<(), &'static str> {
    while !file.is_empty() {
        let total = match total_size(file) {
            Some(total) if total.is_multiple_of(UNIT) => total,
            _ => return Err("an update's header makes no sense"),
        };
        let (update, rest) = file
            .split_at_checked(total)
            .ok_or("its last update is cut off")?;
        if fits(update, cpu)? {
            found(Update {
                revision: word(update, 4).unwrap_or(0),
                date: word(update, 8).unwrap_or(0),
                bytes: update,
            });
        }
        file = rest;
    }
    Ok(())
}

/// The size of the update at the start of `file`, if its header has a known version.
fn total_size(file: &[u8]) -> Option<usize> {
    let is_known = word(file, 0)? == 1 && word(file, 20)? == 1;
    let total = match (word(file, 28)?, word(file, 32)? as usize) {
        (0, _) | (_, 0) => OLD_SIZES.1,
        (_, total) => total,
    };
    is_known.then_some(total)
}

/// Whether an update is for `cpu`, provided that its checksums are right.
fn fits(update: &[u8], cpu: &Identity) -> Result<bool, &'static str> {
    let at = |offset| word(update, offset).ok_or("it is cut off");
    let data = match at(28)? as usize {
        0 => OLD_SIZES.0,
        data => data,
    };
    let (own, table) = HEADER
        .checked_add(data)
        .filter(|end| end.is_multiple_of(4))
        .and_then(|end| update.split_at_checked(end))
        .ok_or("an update's data is larger than the update")?;
    if sum(own) != 0 {
        return Err("an update's sum is wrong");
    }
    let is_for = |signature, platforms| signature == cpu.signature && platforms & cpu.platform != 0;
    let (signature, sum_word, platforms) = (at(12)?, at(16)?, at(24)?);
    let mut fits = is_for(signature, platforms);
    let expected = sum_of([signature, platforms, sum_word]);
    for [signature, platforms, sum_word] in further(table)? {
        if sum_of([signature, platforms, sum_word]) != expected {
            return Err("an update's table of CPUs has a wrong sum");
        }
        fits |= is_for(signature, platforms);
    }
    Ok(fits)
}

/// The entries of an update's table of CPUs: signature, platforms, and the checksum for these.
fn further(table: &[u8]) -> Result<impl Iterator<Item = [u32; 3]>, &'static str> {
    let entries = table.get(TABLE_HEADER..).unwrap_or_default();
    let count = word(table, 0).unwrap_or(0) as usize;
    let is_whole = entries.len().is_multiple_of(ENTRY) && entries.len() / ENTRY == count;
    let has_none = table.is_empty();
    if !has_none && (table.len() < TABLE_HEADER || !is_whole || sum(table) != 0) {
        return Err("an update's table of CPUs makes no sense");
    }
    let entry = |bytes| [0, 4, 8].map(|at| word(bytes, at).unwrap_or(0));
    Ok(entries.chunks_exact(ENTRY).map(entry))
}

fn sum_of(words: [u32; 3]) -> u32 {
    words.into_iter().fold(0, u32::wrapping_add)
}

/// The sum of the 32-bit words of `bytes`, whose length is a multiple of four.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(4).map(|word| match word {
        [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
        _ => 0,
    });
    words.fold(0, u32::wrapping_add)
}
