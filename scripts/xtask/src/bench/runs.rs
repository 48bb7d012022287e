//! Runs the benchmark guest on xenlike, and on Debian's Xen, whose figures are cached.

use super::boot;
use super::machine::{self, Figures};
use crate::debian::{self, Part};
use anyhow::{Context, Result, bail};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::build as artefact;
use xenlike_tests::scenario::find_file;

/// The number of domains that a part of the rows needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domains {
    /// The guest as Dom0, alone.
    One,
    /// As Dom0, the guest creates other domains from its initrd, which is the guest again.
    Two,
}

/// Both parts of the rows.
pub const PARTS: [Domains; 2] = [Domains::One, Domains::Two];

impl Domains {
    /// The medium that boots this part.
    pub fn media(self, hypervisor: Media, arguments: &str) -> Result<Media> {
        let image = find_file("bench")?;
        let media = hypervisor.module(Module::with_arguments(image.clone(), arguments));
        Ok(match self {
            Self::One => media,
            Self::Two => media
                .and("dom0_mem=128M")
                .module(Module::with_arguments(image, "")),
        })
    }
}

/// Measures xenlike: all rows, or the one called `only`.
pub fn ours(only: Option<&str>) -> Result<Figures> {
    let arguments = only.map_or(String::new(), |name| format!("only={name}"));
    run("bench-xenlike", &Media::xenlike(), &arguments)
}

/// Measures all rows of another build of xenlike.
pub fn of(hypervisor: &Media) -> Result<Figures> {
    run("bench-other", hypervisor, "")
}

/// Xen's figures, measured once for each build of the guest.
pub fn theirs() -> Result<Figures> {
    let xen = xen()?;
    let kept = kept_path()?;
    if let Ok(text) = fs::read_to_string(&kept) {
        return Ok(machine::parse(&text));
    }
    let mut figures = run("bench-xen", &xen, "")?;
    figures.extend(to_dom0(&xen_elf()?, &xen)?);
    let lines = figures
        .iter()
        .map(|(name, value)| format!("bench {name} {value}\n"));
    fs::write(&kept, lines.collect::<String>())?;
    Ok(figures)
}

/// Measures xenlike's boots.
pub fn boots() -> Result<Figures> {
    let mut figures = to_dom0(&artefact("xenlike"), &Media::xenlike())?;
    figures.extend(boot::to_prompt()?);
    Ok(figures)
}

/// Measures from GRUB's jump to the first instruction of the guest as Dom0.
fn to_dom0(kernel: &Path, hypervisor: &Media) -> Result<Figures> {
    boot::to_dom0(
        kernel,
        &Domains::One.media(hypervisor.clone(), "only=xen_version")?,
    )
}

fn run(name: &str, hypervisor: &Media, arguments: &str) -> Result<Figures> {
    let mut figures = Figures::new();
    for part in PARTS {
        figures.extend(machine::dom0(
            name,
            &part.media(hypervisor.clone(), arguments)?,
        )?);
    }
    figures.retain(|name, _| !matches!(name.as_str(), "entry_tsc" | "operations"));
    Ok(figures)
}

/// A medium with Debian's Xen.
pub fn xen() -> Result<Media> {
    debian::ensure(&[Part::Xen])?;
    let media = Media::new(xen_elf()?);
    Ok(media.command_line("console=com1 com1=115200,8n1 noreboot"))
}

/// Debian's Xen, unpacked. GRUB's work is the same for a copy with other code.
fn xen_elf() -> Result<PathBuf> {
    let path = artefact("bench/xen.elf");
    if !path.exists() {
        fs::create_dir_all(artefact("bench"))?;
        let packed = Part::Xen.path();
        let output = Command::new("gzip")
            .arg("-dc")
            .arg(&packed)
            .output()
            .context("gzip")?;
        if !output.status.success() {
            bail!("gzip can't unpack {}", packed.display());
        }
        fs::write(&path, output.stdout)?;
    }
    Ok(path)
}

/// Path of the cached figures for this guest under this Xen.
fn kept_path() -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    for path in [find_file("bench")?, Part::Xen.path()] {
        fs::read(path)?.hash(&mut hasher);
    }
    fs::create_dir_all(artefact("bench"))?;
    Ok(artefact(&format!("bench/xen-{:016x}", hasher.finish())))
}
