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

/// The form of the guest that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The 64-bit form.
    Wide,
    /// The 32-bit form. It creates no domains, so where there are two, it is the second one, and the 64-bit form is Dom0.
    Narrow,
}

impl Form {
    /// The guest's file.
    fn file(self) -> &'static str {
        match self {
            Self::Wide => "bench",
            Self::Narrow => "bench-32",
        }
    }
}

/// Both parts of the rows.
pub const PARTS: [Domains; 2] = [Domains::One, Domains::Two];

impl Domains {
    /// The medium that boots this part with the 64-bit guest.
    pub fn media(self, hypervisor: Media, arguments: &str) -> Result<Media> {
        self.media_of(Form::Wide, hypervisor, arguments)
    }

    /// The medium that boots this part with the guest in this form.
    fn media_of(self, form: Form, hypervisor: Media, arguments: &str) -> Result<Media> {
        let with = |form: Form, arguments| -> Result<Module> {
            Ok(Module::with_arguments(find_file(form.file())?, arguments))
        };
        Ok(match self {
            Self::One => hypervisor.module(with(form, arguments)?),
            Self::Two => hypervisor
                .module(with(Form::Wide, arguments)?)
                .and("dom0_mem=128M")
                .module(with(form, "")?),
        })
    }
}

/// Measures xenlike: all rows, or the one called `only`.
pub fn ours(only: Option<&str>) -> Result<Figures> {
    run(
        "bench-xenlike",
        Form::Wide,
        &Media::xenlike(),
        &arguments(only),
    )
}

/// Measures xenlike with the 32-bit guest: all rows that it has, or the one called `only`.
pub fn narrow(only: Option<&str>) -> Result<Figures> {
    run(
        "bench-xenlike-32",
        Form::Narrow,
        &Media::xenlike(),
        &arguments(only),
    )
}

/// The guest's command line.
fn arguments(only: Option<&str>) -> String {
    only.map_or(String::new(), |name| format!("only={name}"))
}

/// Measures all rows of another build of xenlike.
pub fn of(hypervisor: &Media) -> Result<Figures> {
    run("bench-other", Form::Wide, hypervisor, "")
}

/// Xen's figures, measured once for each build of the guest.
pub fn theirs() -> Result<Figures> {
    let xen = xen()?;
    let kept = kept_path()?;
    if let Ok(text) = fs::read_to_string(&kept) {
        return Ok(machine::parse(&text));
    }
    let mut figures = run("bench-xen", Form::Wide, &xen, "")?;
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

fn run(name: &str, form: Form, hypervisor: &Media, arguments: &str) -> Result<Figures> {
    let mut figures = Figures::new();
    for part in PARTS {
        figures.extend(machine::dom0(
            name,
            &part.media_of(form, hypervisor.clone(), arguments)?,
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
