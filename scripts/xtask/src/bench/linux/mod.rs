//! `scripts/bench dom0`: measures Debian's Linux on xenlike and on Xen: its boot as Dom0, and its processes there
//! and in a DomU.

mod boot;
mod guests;
mod rows;
mod section;
mod share;

pub use section::kept;

use super::runs;
use crate::build;
use crate::debian;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use guests::Place;
use std::fs;
use std::path::PathBuf;
use xenlike_tests::media::Media;
use xenlike_tests::paths::root;

/// Options of `scripts/bench dom0`.
#[derive(Args)]
pub struct Options {
    /// One part alone: the document's others stay
    #[arg(long, value_enum)]
    part: Option<Only>,
    /// Where the instructions of one row go, in Dom0; of `boot`, those of Dom0's way up
    #[arg(long, value_name = "ROW", conflicts_with = "part")]
    profile: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    /// From power-on to the init process
    Boot,
    /// Processes in Dom0
    Dom0,
    /// Processes in a `DomU`
    Domu,
}

/// The two hypervisors that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    /// Debian's Xen 4.20.
    Xen,
    /// The hypervisor of this repository.
    Xenlike,
}

impl Hypervisor {
    fn media(self) -> Result<Media> {
        match self {
            Self::Xen => runs::xen(),
            Self::Xenlike => Ok(Media::xenlike()),
        }
    }
}

/// Measures, prints, and writes the section of docs/BENCHMARKS.md.
///
/// # Errors
/// If a part is missing, or a boot fails.
pub fn dom0(options: &Options) -> Result<()> {
    debian::ensure(&debian::ALL)?;
    let program = build::linuxbench()?;
    if let Some(row) = &options.profile {
        return share::profile(row, &program);
    }
    let wanted = |part| options.part.is_none_or(|only| only == part);
    let mut text = String::new();
    if wanted(Only::Boot) {
        told(&mut text, &section::boots(&boot::measure()?));
    }
    for (part, place) in [(Only::Dom0, Place::Dom0), (Only::Domu, Place::DomU)] {
        if wanted(part) {
            let ours = guests::run(Hypervisor::Xenlike, place, &program)?;
            let theirs = guests::run(Hypervisor::Xen, place, &program)?;
            told(&mut text, &section::rows(place, &ours, &theirs));
        }
    }
    write(&text)
}

fn told(all: &mut String, text: &str) {
    print!("{text}");
    all.push_str(text);
}

fn write(text: &str) -> Result<()> {
    let path: PathBuf = root().join("docs/BENCHMARKS.md");
    let before = fs::read_to_string(&path).context("docs/BENCHMARKS.md")?;
    fs::write(&path, section::replace(&before, text))?;
    println!("docs/BENCHMARKS.md's section is written");
    Ok(())
}
