//! Names of the core's addresses, from the symbol table that the loader has kept with the image.

use core::fmt;

use rustc_demangle::demangle;

use super::info::{self, Symbols};

/// The size in bytes of an `Elf64_Sym` (ELF-64, "Symbol Table"), and the type of a function.
const ENTRY_BYTES: usize = 24;
const TYPE_FUNCTION: u8 = 2;

/// An address in the core's code. Formats as function and offset.
pub struct Place(pub u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match info::get()
            .and_then(|i| i.symbols)
            .and_then(|s| find(&s, self.0))
        {
            Some((name, offset)) => write!(f, "{:#}+{offset:#x}", demangle(name)),
            None => f.write_str("?"),
        }
    }
}

/// Whether a function starts at `address`.
pub fn is_start(address: u64) -> bool {
    let found = info::get()
        .and_then(|i| i.symbols)
        .and_then(|s| find(&s, address));
    found.is_some_and(|(_, offset)| offset == 0)
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The function that contains `address`, and the offset in it.
fn find(symbols: &Symbols, address: u64) -> Option<(&'static str, u64)> {
    let mut best: Option<(u64, u32)> = None;
    for entry in symbols.table.chunks_exact(ENTRY_BYTES) {
        let (Some(value), Some(kind)) = (word(entry, 8), entry.get(4)) else {
            continue;
        };
        let assembly = kind & 0xf == 0;
        let nearer = value <= address && best.is_none_or(|(b, _)| value > b);
        if nearer && (kind & 0xf == TYPE_FUNCTION || assembly) {
            let name = u32::from_le_bytes(entry.get(..4)?.try_into().ok()?);
            best = Some((value, name));
        }
    }
    let (value, name) = best?;
    let name = symbols.names.get(name as usize..)?;
    let name = name.split(|b| *b == 0).next()?;
    Some((core::str::from_utf8(name).ok()?, address - value))
}
