//! Counts lines and unsafe blocks of the ring-0 code, room by room.

use crate::check::{self, Source};
use anyhow::{Result, bail};
use regex::Regex;
use std::collections::BTreeMap;

/// Maximum number of lines in a file, comments included.
const MAX_FILE_LINES: usize = 600;
/// Nor a test module at the end of a file; a longer one is a file of its own (ARCHITECTURE.md, "Tests").
const MAX_INLINE_TEST_LINES: usize = 120;

#[derive(Default, Clone, Copy)]
struct Count {
    files: usize,
    lines: usize,
    unsafe_uses: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.lines += other.lines;
        self.unsafe_uses += other.unsafe_uses;
    }

    fn unsafe_per_thousand(self) -> f64 {
        let lines = u32::try_from(self.lines.max(1)).map_or(f64::MAX, f64::from);
        let uses = u32::try_from(self.unsafe_uses).map_or(f64::MAX, f64::from);
        uses * 1000.0 / lines
    }
}

/// Prints the table.
///
/// # Errors
/// If a file is too long.
pub fn print() -> Result<()> {
    let sources = check::sources(&check::core_folder())?;
    let mut rooms: BTreeMap<String, Count> = BTreeMap::new();
    let mut total = Count::default();
    let counted = |source: &&Source| !source.is_test() && !source.is_audit();
    for source in sources.iter().filter(counted) {
        let count = count(source);
        let first = source.path.components().next();
        let room = first.map_or_else(String::new, |part| {
            part.as_os_str().to_string_lossy().into_owned()
        });
        rooms.entry(room).or_default().add(count);
        total.add(count);
    }
    println!(
        "ring 0: code lines without blank lines, comments, tests and the audit of test builds"
    );
    println!(
        "{:<14} {:>6} {:>7} {:>7} {:>10}",
        "room", "files", "lines", "unsafe", "per 1000"
    );
    for (room, count) in &rooms {
        print_row(room, *count);
    }
    print_row("all", total);
    refuse_long_files(&sources)?;
    refuse_long_test_modules(&sources)
}

fn print_row(name: &str, count: Count) {
    println!(
        "{name:<14} {:>6} {:>7} {:>7} {:>10.1}",
        count.files,
        count.lines,
        count.unsafe_uses,
        count.unsafe_per_thousand()
    );
}

fn count(source: &Source) -> Count {
    let keyword = Regex::new(r"\bunsafe\s*(\{|impl\b|extern\b|fn\b)").expect("a fixed pattern");
    let code: Vec<&str> = source
        .without_tests()
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .collect();
    let code = without_audit(&code);
    Count {
        files: 1,
        lines: code.len(),
        unsafe_uses: code
            .iter()
            .map(|line| keyword.find_iter(line).count())
            .sum(),
    }
}

/// Removes code that is only in test builds: an item or a statement after its attribute.
fn without_audit<'a>(code: &[&'a str]) -> Vec<&'a str> {
    let mut rest = code.iter();
    let mut kept = Vec::new();
    while let Some(line) = rest.next() {
        if *line != "#[cfg(feature = \"audit\")]" {
            kept.push(*line);
            continue;
        }
        let mut depth = 0;
        for line in rest.by_ref() {
            let count = |brackets: [char; 3]| line.matches(brackets).count();
            depth += count(['{', '(', '[']);
            depth -= count(['}', ')', ']']).min(depth);
            let is_attribute = line.starts_with("#[");
            if depth == 0 && !is_attribute && line.ends_with(['}', ';', ',']) {
                break;
            }
        }
    }
    kept
}

fn refuse_long_files(sources: &[Source]) -> Result<()> {
    let long: Vec<String> = sources
        .iter()
        .map(|source| (source, source.text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_FILE_LINES)
        .map(|(source, lines)| format!("  {}: {lines} lines", source.path.display()))
        .collect();
    if !long.is_empty() {
        bail!("files over {MAX_FILE_LINES} lines:\n{}", long.join("\n"));
    }
    Ok(())
}

fn refuse_long_test_modules(sources: &[Source]) -> Result<()> {
    let long: Vec<String> = sources
        .iter()
        .filter(|source| !source.is_test())
        .map(|source| (source, longest_module(source.tests())))
        .filter(|(_, lines)| *lines > MAX_INLINE_TEST_LINES)
        .map(|(source, lines)| format!("  {}: {lines} lines", source.path.display()))
        .collect();
    if !long.is_empty() {
        bail!(
            "test modules over {MAX_INLINE_TEST_LINES} lines, which belong in files of their own:\n{}",
            long.join("\n")
        );
    }
    Ok(())
}

/// Lines of the longest of these modules, which begin and end at the margin.
fn longest_module(text: &str) -> usize {
    text.split("\n}")
        .map(|module| module.trim_start().lines().count())
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{longest_module, without_audit};

    #[test]
    fn modules_are_measured_one_by_one() {
        let two = "mod tests {\n    a\n    b\n    c\n}\n\n#[cfg(x)]\nmod models {\n    a\n}\n";
        assert_eq!(longest_module(two), 4);
        assert_eq!(longest_module(""), 0);
    }

    #[test]
    fn what_test_builds_have_is_left_out() {
        let attribute = "#[cfg(feature = \"audit\")]";
        let code = [
            "a",
            attribute,
            "mod audit;",
            "b",
            attribute,
            "fn f() {",
            "x",
            "}",
            "c",
            attribute,
            "key(",
            "1,",
            "),",
            "d",
        ];
        assert_eq!(without_audit(&code), ["a", "b", "c", "d"]);
    }
}
