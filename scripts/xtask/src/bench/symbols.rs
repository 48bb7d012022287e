//! Finds a program's functions by address.

use anyhow::{Context, Result};
use elf::ElfBytes;
use elf::abi::{STT_FUNC, STT_NOTYPE};
use elf::endian::AnyEndian;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The symbol table of one or more programs that don't overlap.
#[derive(Default)]
pub struct Symbols {
    by_address: BTreeMap<u64, String>,
    /// Several names may have the same address.
    by_name: BTreeMap<String, u64>,
}

impl Symbols {
    /// Adds the symbols of a program.
    ///
    /// # Errors
    /// If the file isn't an ELF, or has no symbols.
    pub fn add(&mut self, path: &Path) -> Result<()> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let file = ElfBytes::<AnyEndian>::minimal_parse(&bytes)?;
        let (table, names) = file
            .symbol_table()?
            .with_context(|| format!("{}: no symbols", path.display()))?;
        for symbol in table.iter() {
            // Labels in assembly have no type, and absolute symbols have no section.
            let code = matches!(symbol.st_symtype(), STT_FUNC | STT_NOTYPE);
            let name = names.get(symbol.st_name as usize)?;
            if code && symbol.st_shndx != 0 && symbol.st_shndx < 0xff00 && !name.is_empty() {
                let name = format!("{:#}", rustc_demangle::demangle(name));
                self.by_name.insert(name.clone(), symbol.st_value);
                self.by_address.insert(symbol.st_value, name);
            }
        }
        Ok(())
    }

    /// The address of a symbol.
    ///
    /// # Errors
    /// If no symbol has that name.
    pub fn address(&self, name: &str) -> Result<u64> {
        self.address_where(name, |known| known == name)
    }

    /// The address of the first symbol that fits; `what` is named in the error if there is none.
    ///
    /// # Errors
    /// If no symbol fits.
    pub fn address_where(&self, what: &str, fits: impl Fn(&str) -> bool) -> Result<u64> {
        let mut symbols = self.by_name.iter();
        let found = symbols.find(|(known, _)| fits(known));
        found
            .map(|(_, address)| *address)
            .with_context(|| format!("no symbol {what}"))
    }

    /// The window of the benchmark guest's measurements, as arguments of QEMU's plug-in.
    ///
    /// # Errors
    /// If these are other programs.
    pub fn window(&self) -> Result<String> {
        let from = self.address("bench_measured_from")?;
        let to = self.address("bench_measured_to")?;
        Ok(format!("from={from:#x},to={to:#x}"))
    }

    /// The function that contains an address, as far as the table tells.
    pub fn function(&self, address: u64) -> &str {
        let below = self.by_address.range(..=address).next_back();
        below.map_or("?", |(_, name)| name)
    }
}
