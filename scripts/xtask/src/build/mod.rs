//! `scripts/build`: builds the artefacts below `build/`.

mod cargo;
mod elf32;
pub mod flat;
pub mod image;

use crate::debian::{self, Part};
use crate::process;
use anyhow::{Context, Result};
use clap::Args;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use xenlike_tests::paths::{build as artefact, root};

/// Options of `scripts/build`.
#[derive(Args, Clone, Default)]
pub struct Options {
    /// Leave Debian's kernels out of the image (nothing is fetched)
    #[arg(long)]
    pub no_debian: bool,
}

/// Builds everything.
///
/// # Errors
/// If a part doesn't build.
pub fn build(options: &Options) -> Result<()> {
    bootable()?;
    fs::create_dir_all(artefact("bin"))?;
    cli()?;
    if !options.no_debian {
        let parts = [
            Part::Linux,
            Part::Initramfs,
            Part::Dom0Modules,
            Part::GnuMach,
            Part::GnuMach32,
            Part::PvGrub,
            Part::PvGrub32,
            Part::Toolstack,
        ];
        debian::ensure(&parts)?;
        debian::dom0::write_initrd()?;
    }
    image::xenlike_iso()
}

/// Builds what boots, the hypervisor and the guests, to `build/xenlike`, `build/guests/` and `build/guests32/`.
///
/// # Errors
/// If a part doesn't build.
pub fn bootable() -> Result<()> {
    fs::create_dir_all(artefact("guests"))?;
    fs::create_dir_all(artefact("guests32"))?;
    guests()?;
    narrow_guests()?;
    core()
}

/// Builds the plug-in that counts instructions in QEMU.
///
/// # Errors
/// If it doesn't build.
pub fn counter() -> Result<PathBuf> {
    cargo::shared_library("tcg-counter")
}

/// Builds the program that measures Linux's processes; returns its path. The program has symbols.
///
/// # Errors
/// If it doesn't build.
pub fn linuxbench() -> Result<PathBuf> {
    let built = cargo::static_host("linuxbench")?;
    built.into_iter().next().context("no linuxbench was made")
}

/// Builds the sample guests, to `build/guests/`, and the boot domain's flat image.
fn guests() -> Result<()> {
    for executable in cargo::bare_metal(&["bootdom", "samples", "bench"], &[], &[])? {
        let name = executable.file_name().context("an executable's name")?;
        if name == "bootdom" {
            flat::flatten(&executable, &bootdom_image())?;
        } else {
            strip(&executable, &artefact("guests").join(name))?;
        }
    }
    Ok(())
}

/// The sample guests that are also built for 32 bits.
const NARROW: &[&str] = &[
    "answers",
    "confined",
    "hello",
    "hostile-absent",
    "hostile-count",
    "hostile-fifo",
    "hostile-flood",
    "hostile-foreign",
    "hostile-free",
    "hostile-grants",
    "hostile-iret",
    "hostile-ldt",
    "hostile-lengths",
    "hostile-loop",
    "hostile-multicall",
    "hostile-nmi",
    "hostile-pagetable",
    "hostile-pin",
    "hostile-pointers",
    "hostile-selfref",
    "hostile-store",
    "idle",
    "ldt",
    "lookup",
    "pingpong",
    "preempt",
    "race",
    "randcall",
    "smp",
    "suspend",
    "ticks",
    "user",
    "user32",
    "worst",
];

/// Builds these sample guests and the benchmark for 32 bits, to `build/guests32/`.
fn narrow_guests() -> Result<()> {
    let mut executables = cargo::narrow_guests("samples", NARROW)?;
    executables.extend(cargo::narrow_guests("bench", &["bench"])?);
    for executable in executables {
        let name = executable.file_name().context("an executable's name")?;
        strip(&executable, &artefact("guests32").join(name))?;
    }
    Ok(())
}

fn bootdom_image() -> PathBuf {
    artefact("bootdom.img")
}

/// Builds the hypervisor with the boot domain in it, to `build/xenlike`, and for `qemu -kernel` to `build/xenlike32`.
fn core() -> Result<()> {
    core_with(&[], &artefact("xenlike"))?;
    elf32::write(&artefact("xenlike"), &artefact("xenlike32"))
}

/// Builds the hypervisor that most tests boot, which can audit itself, to `build/test/xenlike`. The guests
/// must have been built.
///
/// # Errors
/// If it doesn't build.
pub fn test_core() -> Result<()> {
    fs::create_dir_all(artefact("test"))?;
    core_with(&["xenlike-core/audit"], &artefact("test/xenlike"))
}

fn core_with(features: &[&str], to: &PathBuf) -> Result<()> {
    let image = bootdom_image();
    let environment = [("XENLIKE_BOOTDOM", image.as_os_str())];
    for executable in cargo::bare_metal(&["xenlike-core"], features, &environment)? {
        strip(&executable, to)?;
    }
    Ok(())
}

/// Builds the CLI as one static binary, to `build/bin/xenlike`.
fn cli() -> Result<()> {
    for executable in cargo::static_host("dom0-tools")? {
        fs::copy(&executable, artefact("bin/xenlike"))?;
    }
    Ok(())
}

/// Copies an ELF without debug information. The symbol table is kept for readable backtraces.
fn strip(from: &PathBuf, to: &PathBuf) -> Result<()> {
    let mut objcopy = Command::new("objcopy");
    objcopy
        .arg("--strip-debug")
        .arg(from)
        .arg(to)
        .current_dir(root());
    process::output(&mut objcopy).map(drop)
}
