//! `scripts/bench`: figures in executed instructions, beside those of Debian's Xen.
//!
//! QEMU counts (`-icount shift=0`): the time-stamp counter tells executed instructions, the same in
//! every run. The guest `bench` measures; it runs as Dom0 under both, and as a domain of xenlike.

mod counted;
mod inlined;
mod machine;
mod mark;
mod profile;
mod symbols;
mod table;

use crate::build;
use crate::debian::{self, Part};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use table::Table;
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::{Scratch, build as artefact};
use xenlike_tests::scenario::{find_file, media_with};

/// Options of `scripts/bench`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = false)]
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
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Where the instructions of one row go, by function
    Profile(profile::Options),
}

/// Measures, and prints one table.
///
/// # Errors
/// When a boot fails.
pub fn bench(options: &Options) -> Result<()> {
    if !options.no_build {
        build::bootable()?;
    }
    if let Some(Task::Profile(options)) = &options.task {
        return profile::profile(options);
    }
    if options.ours {
        return ours_alone(options.only.as_deref());
    }
    debian::ensure(&[Part::Xen])?;
    let scratch = Scratch::new("bench")?;
    let mut table = Table::default();
    compare_as_dom0(&mut table, &scratch)?;
    measure_shell(&mut table, &scratch)?;
    table.print();
    Ok(())
}

/// The guest as Dom0 of xenlike; all rows, or the one called `only`.
fn ours_alone(only: Option<&str>) -> Result<()> {
    let arguments = only.map_or(String::new(), |name| format!("only={name}"));
    let media = Media::xenlike().module(Module::with_arguments(find_file("bench")?, arguments));
    let mut table = Table::default();
    for (name, figure) in machine::dom0("bench-xenlike", &media)? {
        if name != "entry_tsc" && name != "operations" {
            table.row(&name, figure, None);
        }
    }
    table.print();
    Ok(())
}

/// The guest as Dom0, under both.
fn compare_as_dom0(table: &mut Table, scratch: &Scratch) -> Result<()> {
    let guest = Module::with_arguments(find_file("bench")?, "");
    let xen = unpacked_xen(scratch)?;
    let theirs = Media::new(&xen)
        .command_line("console=com1 com1=115200,8n1 noreboot")
        .module(guest.clone());
    let ours = Media::xenlike().module(guest);
    let their_jump = grub_jump(&xen, &theirs, scratch)?;
    let our_jump = grub_jump(&artefact("xenlike"), &ours, scratch)?;
    let their_figures = machine::dom0("bench-xen", &theirs)?;
    let our_figures = machine::dom0("bench-xenlike", &ours)?;
    for (name, figure) in &our_figures {
        let peer = their_figures.get(name).copied();
        if name == "entry_tsc" {
            let since = |tsc: u64, jump: u64| tsc.saturating_sub(jump);
            let peer = peer.map(|tsc| since(tsc, their_jump));
            table.row("boot_to_dom0", since(*figure, our_jump), peer);
        } else {
            table.row(name, *figure, peer);
        }
    }
    Ok(())
}

/// The embedded control domain: boot, prompt, creating a domain.
fn measure_shell(table: &mut Table, scratch: &Scratch) -> Result<()> {
    let media = media_with(&["bench", "bench.cfg"])?;
    let jump = grub_jump(&artefact("xenlike"), &media, scratch)?;
    let times = machine::shell(&media)?;
    table.row(
        "boot_to_boot_domain",
        times.entry.saturating_sub(jump),
        None,
    );
    table.row("boot_to_prompt", times.prompt.saturating_sub(jump), None);
    table.row("create_to_first_instruction", times.create, None);
    for (name, figure) in &times.as_guest {
        table.row(&format!("{name} (DomU)"), *figure, None);
    }
    Ok(())
}

/// The uncompressed hypervisor, so that its copy with other code in it costs GRUB the same.
fn unpacked_xen(scratch: &Scratch) -> Result<PathBuf> {
    let output = Command::new("gzip")
        .arg("-dc")
        .arg(Part::Xen.path())
        .output()
        .context("gzip")?;
    let path = scratch.path().join("xen.elf");
    fs::write(&path, output.stdout)?;
    Ok(path)
}

/// The counter when GRUB jumps to `kernel`, booted as `media` boots it.
fn grub_jump(kernel: &Path, media: &Media, scratch: &Scratch) -> Result<u64> {
    let marked =
        mark::marked(&fs::read(kernel)?).with_context(|| format!("{}", kernel.display()))?;
    let path = scratch.path().join("marked");
    fs::write(&path, marked)?;
    machine::printed_tsc(&media.clone().with_kernel(path))
}
