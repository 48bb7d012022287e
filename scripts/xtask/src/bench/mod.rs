//! `scripts/bench`: measures in executed instructions, beside Debian's Xen.
//!
//! Under QEMU's `-icount shift=0`, the time-stamp counter counts executed instructions, and the count is the same in
//! every run. The guest `bench` measures; it runs as Dom0 under both hypervisors.

mod boot;
mod compare;
mod counted;
mod curves;
mod document;
mod entry;
mod inlined;
mod linux;
mod longest;
mod machine;
mod plot;
mod profile;
mod rows;
mod runs;
mod scaling;
mod short;
mod symbols;
pub use symbols::Symbols;
mod table;
mod xl;

use crate::build;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use std::fs;
use table::Table;
use xenlike_tests::paths::root;

/// Options of `scripts/bench`.
#[derive(Args)]
pub struct Options {
    /// Measure what is there, without building
    #[arg(long)]
    no_build: bool,
    /// Measure xenlike alone, as Dom0: seconds
    #[arg(long)]
    ours: bool,
    /// With --ours: one row alone
    #[arg(long, requires = "ours", value_name = "ROW")]
    only: Option<String>,
    /// Measure also how long xl takes under Xen, with Linux as Dom0: many minutes
    #[arg(long, conflicts_with = "ours")]
    xl: bool,
    /// What changed since a revision, which is built in a folder of its own
    #[arg(long, value_name = "REVISION")]
    compare: Option<String>,
    /// Write docs/BENCHMARKS.md even if rows fell back
    #[arg(long)]
    accept: bool,
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Where the instructions of one row go, by function
    Profile(profile::Options),
    /// How long a CPU stays in ring 0 at the worst
    Longest(longest::Options),
    /// Linux as Dom0 and in a `DomU`, beside the same on Xen; many minutes
    Dom0(linux::Options),
    /// What many domains, a large guest, many vCPUs do to an operation's cost
    Scaling(scaling::Options),
}

/// Measures, and prints one table.
///
/// # Errors
/// If a boot fails, or a row has become worse.
pub fn bench(options: &Options) -> Result<()> {
    if !options.no_build {
        build::bootable()?;
    }
    match &options.task {
        Some(Task::Profile(options)) => return profile::profile(options),
        Some(Task::Longest(options)) => return longest::longest(options),
        Some(Task::Scaling(options)) => return scaling::scaling(options),
        Some(Task::Dom0(options)) => return linux::dom0(options),
        None => {}
    }
    if let Some(revision) = &options.compare {
        return compare::compare(revision, &runs::ours(None)?);
    }
    if options.ours {
        return ours_alone(options);
    }
    side_by_side(options)
}

fn ours_alone(options: &Options) -> Result<()> {
    let figures = runs::ours(options.only.as_deref())?;
    // Xen's column is taken from the document, as the guest rarely changes.
    let before = committed();
    let table = Table::new(&figures, &before.figures_of_xen())
        .with_narrow(&runs::narrow(options.only.as_deref())?)
        .of_ours();
    print!("{}", table.text(&before));
    Ok(())
}

/// The document's table; empty if there is no document yet.
fn committed() -> Table {
    let text = fs::read_to_string(root().join("docs/BENCHMARKS.md"));
    document::read(&text.unwrap_or_default())
}

/// Measures both, writes the document and the plot, and checks whether a row has become worse.
fn side_by_side(options: &Options) -> Result<()> {
    let before = committed();
    let mut theirs = runs::theirs()?;
    if options.xl {
        theirs.extend(xl::create()?);
    } else if let Some(kept) = before.line(xl::ROW).and_then(|line| line.theirs) {
        theirs.insert(xl::ROW.to_owned(), kept);
    }
    let mut ours = runs::ours(None)?;
    ours.extend(runs::boots()?);
    let table = Table::new(&ours, &theirs).with_narrow(&runs::narrow(None)?);
    print!("{}", table.text(&before));
    println!(
        "create hello.cfg, to its end: {} ms here and now",
        boot::milliseconds()?
    );
    let fallen = table.fallen(&before);
    if !fallen.is_empty() && !options.accept {
        let names: Vec<&str> = fallen.iter().map(|line| line.row.name).collect();
        bail!(
            "rows that had reached their target fell back: {} (--accept writes the document all the same)",
            names.join(", ")
        );
    }
    write(&table)
}

/// Writes the document, the plot and README's short table.
fn write(table: &Table) -> Result<()> {
    let docs = root().join("docs");
    let path = docs.join("BENCHMARKS.md");
    let old = fs::read_to_string(&path).unwrap_or_default();
    let text = document::write(table) + linux::kept(&old);
    fs::write(path, text).context("docs/BENCHMARKS.md")?;
    fs::write(docs.join("benchmarks.svg"), plot::svg(table)).context("docs/benchmarks.svg")?;
    let readme = root().join("README.md");
    let text = fs::read_to_string(&readme).context("README.md")?;
    fs::write(&readme, short::replace(&text, table)).context("README.md")?;
    println!("docs/BENCHMARKS.md, docs/benchmarks.svg and README.md's table are written");
    Ok(())
}
