//! `scripts/bench profile ROW`: shows where the instructions of one operation go.

use super::counted::{self, Counts};
use super::inlined::By;
use super::machine;
use super::symbols::Symbols;
use super::{boot, inlined, runs, table};
use crate::build;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::fs;
use xenlike_tests::media::Media;
use xenlike_tests::paths::{Scratch, build as artefact, root};

/// Options of `scripts/bench profile`.
#[derive(Args)]
pub struct Options {
    /// The row, as the table names it
    row: String,
    /// By source function, with those that the compiler inlined told apart
    #[arg(long)]
    inlined: bool,
    /// By source line
    #[arg(long, conflicts_with = "inlined")]
    lines: bool,
    /// By address, in order: to be read beside a disassembly
    #[arg(long, conflicts_with_all = ["inlined", "lines"])]
    addresses: bool,
}

/// Counts and prints. The programs must have been built.
///
/// # Errors
/// If there is no such row, or the boot fails.
pub fn profile(options: &Options) -> Result<()> {
    let mut symbols = Symbols::default();
    symbols.add(&artefact("xenlike"))?;
    let program = if options.row == boot::CREATE {
        boot::shell_program()
    } else {
        artefact("guests/bench")
    };
    symbols.add(&program)?;
    let (counts, operations) = if options.row == boot::CREATE {
        (boot::create_counts()?, 1)
    } else {
        count(&options.row, &symbols)?
    };
    if options.addresses {
        print_addresses(&counts, &symbols, operations);
        return Ok(());
    }
    let by_source = |by: By| {
        let folder = root().join("target/x86_64-unknown-none/release");
        let programs = [
            folder.join("xenlike-core"),
            folder.join(program.file_name().unwrap_or_default()),
        ];
        inlined::by_source(&counts, &programs, by)
    };
    let by_name = match (options.inlined, options.lines) {
        (_, true) => by_source(By::Line)?,
        (true, false) => by_source(By::Function)?,
        (false, false) => by_function(&counts, &symbols),
    };
    print(&options.row, by_name, operations);
    Ok(())
}

/// Runs only this row under QEMU's plug-in; returns the counts by address, and the number of operations.
fn count(row: &str, symbols: &Symbols) -> Result<(Counts, u64)> {
    let scratch = Scratch::new("profile")?;
    let output = scratch.path().join("counts");
    let window = symbols.window()?;
    let plugin = build::counter()?;
    for part in runs::PARTS {
        let media = part.media(Media::xenlike(), &format!("only={row}"))?;
        let figures = machine::counted(&media, &plugin, &output, &window)?;
        if figures.contains_key(row) {
            let operations = figures.get("operations").copied().unwrap_or_default();
            let text = fs::read_to_string(&output).context("the plug-in's output")?;
            return Ok((counted::counts(&text), operations));
        }
    }
    bail!("no row is called {row}")
}

fn by_function(counts: &Counts, symbols: &Symbols) -> BTreeMap<String, u64> {
    let mut by_name = BTreeMap::new();
    for (address, count) in counts {
        let name = symbols.function(*address).to_owned();
        *by_name.entry(name).or_default() += count;
    }
    by_name
}

fn print_addresses(counts: &Counts, symbols: &Symbols, operations: u64) {
    for (&address, &count) in counts {
        let each = table::quotient(count, operations);
        println!("{each:>8.2} {address:#x} {}", symbols.function(address));
    }
}

/// Prints the largest counts first; those below half an instruction are left out.
pub(super) fn print(row: &str, by_name: BTreeMap<String, u64>, operations: u64) {
    let total: u64 = by_name.values().sum();
    let each = |count: u64| table::quotient(count, operations);
    println!(
        "{row}: {:.1} instructions each, of {operations}",
        each(total)
    );
    let mut sorted: Vec<(String, u64)> = by_name.into_iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (name, count) in sorted {
        if each(count) >= 0.5 {
            let share = table::quotient(count * 100, total);
            println!("{:>10.1} {share:>5.1} %  {name}", each(count));
        }
    }
}
