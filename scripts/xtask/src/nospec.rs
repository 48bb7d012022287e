//! Checks guests' addresses in the built hypervisor: each place that opens guest memory must come after the
//! arithmetic that bounds the address (`mm::layout::guest_or_nowhere`), in the same function.
//!
//! The compiler isn't obliged to keep this order, so its output is checked. The places are those that `arch/smap.rs`
//! lists for boot, where `stac` is written.

use crate::bench::Symbols;
use crate::process;
use anyhow::{Context, Result, bail};
use elf::ElfBytes;
use elf::endian::LittleEndian;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use xenlike_tests::paths::build;

/// The encoding of `stac` in the list.
const OPENS: u32 = 0x00cb_010f;
/// The instruction that bounds an address. Its other uses are too rare to hide a fault.
const BOUNDS: &str = "cmovae ";

/// Checks `build/xenlike`.
///
/// # Errors
/// If a function opens guest memory before it has bounded an address, or no function opens it.
pub fn check() -> Result<()> {
    let opens = opens()?;
    if opens.is_empty() {
        bail!("no place opens guest memory: the list of build/xenlike was read wrongly");
    }
    let mut objdump = Command::new("objdump");
    objdump
        .args(["-d", "-C", "--no-show-raw-insn"])
        .arg(build("xenlike"));
    let listing = process::output(&mut objdump)?;
    let bare = bare(&listing, &opens);
    if !bare.is_empty() {
        let functions: Vec<&str> = bare.into_iter().collect();
        bail!(
            "guest memory opens behind no bound: {}",
            functions.join(", ")
        );
    }
    println!("guest memory opens in {} places, each bounded", opens.len());
    Ok(())
}

/// The addresses in the list that get `stac`.
fn opens() -> Result<BTreeSet<u64>> {
    let path = build("xenlike");
    let mut symbols = Symbols::default();
    symbols.add(&path)?;
    let (from, to) = (
        symbols.address("__smap_start")?,
        symbols.address("__smap_end")?,
    );
    let bytes = fs::read(&path)?;
    let file = ElfBytes::<LittleEndian>::minimal_parse(&bytes)?;
    let sections = file.section_headers().context("no sections")?;
    let section = sections
        .iter()
        .find(|it| (it.sh_addr..it.sh_addr + it.sh_size).contains(&from))
        .context("no section holds __smap_start")?;
    let (data, _) = file.section_data(&section)?;
    let list = data
        .get((from - section.sh_addr) as usize..(to - section.sh_addr) as usize)
        .context("__smap_end lies outside")?;
    let (entries, _) = list.as_chunks::<8>();
    let places = entries.iter().enumerate().filter_map(|(n, entry)| {
        let [a, b, c, d, e, f, g, h] = *entry;
        let here = from + 8 * n as u64;
        let distance = i64::from(i32::from_le_bytes([a, b, c, d]));
        (u32::from_le_bytes([e, f, g, h]) == OPENS).then(|| here.wrapping_add_signed(distance))
    });
    Ok(places.collect())
}

/// The functions in which a place of `opens` comes before any bound.
fn bare<'a>(listing: &'a str, opens: &BTreeSet<u64>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let (mut function, mut bounded) = ("", false);
    for line in listing.lines() {
        if let Some(name) = line.strip_suffix(">:") {
            function = name.split_once('<').map_or(name, |(_, name)| name);
            bounded = false;
        } else if let Some((address, instruction)) = line.split_once(":\t") {
            bounded |= instruction.contains(BOUNDS);
            let opens_here = u64::from_str_radix(address.trim(), 16)
                .is_ok_and(|address| opens.contains(&address));
            if opens_here && !bounded {
                found.insert(function);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::bare;

    #[test]
    fn a_bound_counts_in_its_own_function() {
        let listing = "\
ffff82d040018750 <good>:
ffff82d04001875d:\tcmovae %rcx,%rax
ffff82d040018764:\tnopl   (%rax)
ffff82d040018768:\tmov    (%rax),%rdx
ffff82d040018780 <bad>:
ffff82d040018784:\tnopl   (%rax)
ffff82d040018788:\tcmovae %rcx,%rax
ffff82d040018790 <padding>:
ffff82d040018794:\tnopl   (%rax)
";
        let opens = [0xffff_82d0_4001_8764, 0xffff_82d0_4001_8784].into();
        assert_eq!(bare(listing, &opens), ["bad"].into());
    }
}
