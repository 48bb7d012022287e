//! The built hypervisor: its symbols, and the function pointers in its data.

use anyhow::{Context, Result};
use elf::ElfBytes;
use elf::abi::{STT_FUNC, STT_NOTYPE, STT_OBJECT};
use elf::endian::LittleEndian;
use std::collections::BTreeMap;

struct Section {
    start: u64,
    bytes: Vec<u8>,
}

struct Data {
    name: String,
    size: u64,
}

/// The contents of the hypervisor's file.
#[derive(Default)]
pub struct Image {
    sections: Vec<Section>,
    functions: BTreeMap<u64, String>,
    data: BTreeMap<u64, Data>,
    /// Functions to which a variable points once boot has set it, by the variable's name.
    pub set_at_boot: Vec<(&'static str, Vec<u64>)>,
}

impl Image {
    /// Parses an ELF file.
    ///
    /// # Errors
    /// If it isn't an ELF.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file)?;
        let mut sections = Vec::new();
        for header in elf.section_headers().context("no sections")? {
            if header.sh_addr != 0 && header.sh_type == elf::abi::SHT_PROGBITS {
                let (bytes, _) = elf.section_data(&header)?;
                let (start, bytes) = (header.sh_addr, bytes.to_vec());
                sections.push(Section { start, bytes });
            }
        }
        let (symbols, names) = elf.symbol_table()?.context("no symbols")?;
        let mut image = Self {
            sections,
            ..Self::default()
        };
        for symbol in symbols {
            let name = names.get(symbol.st_name as usize)?;
            let name = format!("{:#}", rustc_demangle::demangle(name));
            let size = symbol.st_size;
            match symbol.st_symtype() {
                STT_FUNC | STT_NOTYPE => drop(image.functions.insert(symbol.st_value, name)),
                STT_OBJECT => drop(image.data.insert(symbol.st_value, Data { name, size })),
                _ => {}
            }
        }
        Ok(image)
    }

    /// The name of the function that starts at `at`.
    pub fn name(&self, at: u64) -> &str {
        self.functions.get(&at).map_or("?", |name| name)
    }

    /// Functions whose name satisfies `wanted`.
    pub fn named(&self, wanted: impl Fn(&str) -> bool) -> Vec<u64> {
        let named = self.functions.iter().filter(|(_, name)| wanted(name));
        named.map(|(at, _)| *at).collect()
    }

    /// The functions to which the variable `name` points.
    pub fn table(&self, name: &str) -> Vec<u64> {
        let found = self.data.iter().find(|(_, data)| data.name == name);
        found.map_or_else(Vec::new, |(at, data)| self.words(*at, data.size / 8))
    }

    fn word(&self, at: u64) -> Option<u64> {
        let holds = |section: &&Section| {
            (section.start..section.start + section.bytes.len() as u64).contains(&at)
        };
        let section = self.sections.iter().find(holds)?;
        let offset = usize::try_from(at - section.start).ok()?;
        let bytes = section.bytes.get(offset..offset + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    fn function_in(&self, at: u64) -> Option<u64> {
        self.word(at)
            .filter(|word| self.functions.contains_key(word))
    }

    fn words(&self, at: u64, count: u64) -> Vec<u64> {
        (0..count)
            .filter_map(|index| self.function_in(at + 8 * index))
            .collect()
    }

    /// The functions to which a variable that is read may point: its value in the file,
    /// or those in [`Self::set_at_boot`].
    pub fn pointer_in(&self, at: u64) -> Vec<u64> {
        let mut found = self.variable(at);
        found.extend(self.function_in(at));
        found
    }

    fn variable(&self, at: u64) -> Vec<u64> {
        let Some((start, data)) = self.data.range(..=at).next_back() else {
            return Vec::new();
        };
        let inside = at < start + data.size.max(1);
        let known = self.set_at_boot.iter();
        known
            .filter(|(name, _)| inside && data.name == *name)
            .flat_map(|(_, functions)| functions.clone())
            .collect()
    }

    /// The functions to which an address leads: a function itself, or a variable, an array or a method table.
    pub fn pointers_at(&self, at: u64) -> Vec<u64> {
        if self.functions.contains_key(&at) {
            return vec![at];
        }
        let mut found = self.variable(at);
        match self.data.get(&at) {
            Some(data) => found.extend(self.words(at, data.size / 8)),
            None => found.extend(self.methods(at)),
        }
        found
    }

    /// The methods of a method table, which begins with a destructor or null, a size and an alignment.
    fn methods(&self, at: u64) -> Vec<u64> {
        let word = |index: u64| self.word(at + 8 * index).unwrap_or(u64::MAX);
        let is_table = (word(0) == 0 || self.function_in(at).is_some())
            && word(1) < 1 << 20
            && word(2).is_power_of_two()
            && word(2) <= 4096;
        let first: u64 = if is_table { 3 } else { 0 };
        let all = (first..first + 64).map_while(|index| self.function_in(at + 8 * index));
        all.chain(self.function_in(at)).collect()
    }
}
