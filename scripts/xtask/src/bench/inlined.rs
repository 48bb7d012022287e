//! Maps addresses to source functions and lines, including inlined functions, by binutils' addr2line.

use super::counted::Counts;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The part of the source by which counts are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By function, also those that the compiler inlined.
    Function,
    /// By source line.
    Line,
}

/// Groups counts by source; each address is looked up in the program that has it.
///
/// # Errors
/// If a program is missing or addr2line fails.
pub fn by_source(counts: &Counts, programs: &[PathBuf], by: By) -> Result<BTreeMap<String, u64>> {
    let mut by_name = BTreeMap::new();
    let mut left = counts.clone();
    for program in programs {
        for place in places(program, left.keys().copied())? {
            if let Some(count) = left.remove(&place.address) {
                let name = match by {
                    By::Function => place.function,
                    By::Line => format!("{}  {}", place.line, place.function),
                };
                *by_name.entry(name).or_default() += count;
            }
        }
    }
    let unknown: u64 = left.values().sum();
    if unknown > 0 {
        by_name.insert("(unknown)".to_owned(), unknown);
    }
    Ok(by_name)
}

struct Place {
    address: u64,
    function: String,
    line: String,
}

/// What addr2line prints for the addresses that it knows.
fn places(program: &Path, addresses: impl Iterator<Item = u64>) -> Result<Vec<Place>> {
    anyhow::ensure!(
        program.exists(),
        "{}: not built (leave --no-build out)",
        program.display()
    );
    let mut command = Command::new("addr2line");
    command.args(["-a", "-f", "-C", "-e"]).arg(program);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("addr2line (package binutils)")?;
    let mut input = child.stdin.take().context("addr2line's input")?;
    let list: String = addresses.map(|address| format!("{address:#x}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(list.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().ok().context("addr2line's input")??;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Parses groups of three lines: address, function, file and line.
fn parse(printed: &str) -> Vec<Place> {
    let lines: Vec<&str> = printed.lines().collect();
    let known = lines.chunks_exact(3).filter_map(|lines| {
        let digits = lines[0].strip_prefix("0x")?;
        let place = Place {
            address: u64::from_str_radix(digits, 16).ok()?,
            function: format!("{:#}", rustc_demangle::demangle(lines[1])),
            line: short(lines[2]),
        };
        (lines[1] != "??").then_some(place)
    });
    known.collect()
}

/// The path of a source file, starting at its crate.
fn short(line: &str) -> String {
    let line = line.split(" (discriminator").next().unwrap_or(line);
    let root = xenlike_tests::paths::root().display().to_string();
    let below = line
        .strip_prefix(&root)
        .map(|path| path.trim_start_matches('/'));
    match (below, line.rsplit_once("/library/")) {
        (Some(path), _) => path.to_owned(),
        (None, Some((_, path))) => path.to_owned(),
        (None, None) => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn unknown_addresses_are_left_out() {
        let printed = "0x0000000000000010\nmain\n/x/a.rs:3 (discriminator 2)\n0x20\n??\n??:0\n";
        let places = parse(printed);
        assert_eq!(places.len(), 1);
        assert_eq!(
            (places[0].address, places[0].function.as_str()),
            (16, "main")
        );
        assert_eq!(places[0].line, "/x/a.rs:3");
    }
}
