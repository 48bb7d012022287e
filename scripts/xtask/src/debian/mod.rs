//! Kernels and programs from Debian's packages, for guests and for comparison. They are never committed.
//!
//! They are placed in `build/debian/`: `vmlinuz`, `initrd.img`, `dom0-modules.img`,
//! `toolstack.img`, `gnumach`, `gnumach-32`, `pvgrub`, `pvgrub-32`, `xen`.

mod archive;
pub mod dom0;
mod initramfs;
mod modules;
pub mod root;
pub mod sources;
pub mod toolstack;

use anyhow::{Context, Result};
use archive::Archive;
use std::fs;
use std::path::{Path, PathBuf};
use xenlike_tests::paths::build;

/// A part that is taken from Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Linux 6.12 for amd64.
    Linux,
    /// A small root file system for Linux: busybox and a script.
    Initramfs,
    /// Kernel modules for a Dom0, as an archive to append to `Initramfs`.
    Dom0Modules,
    /// GNU Mach, the amd64 PV build.
    GnuMach,
    /// GNU Mach, the i386 PV build.
    GnuMach32,
    /// GRUB, the amd64 PV build.
    PvGrub,
    /// GRUB, the i386 PV build.
    PvGrub32,
    /// Xen 4.20, for comparison.
    Xen,
    /// Debian's own xl and its daemons, as an archive to append to a Dom0's root.
    Toolstack,
    /// Debian 12's xl and daemons, to append to `Toolstack`.
    OlderToolstack,
}

/// All parts that are taken from Debian.
pub const ALL: [Part; 10] = [
    Part::Linux,
    Part::Initramfs,
    Part::Dom0Modules,
    Part::GnuMach,
    Part::GnuMach32,
    Part::PvGrub,
    Part::PvGrub32,
    Part::Xen,
    Part::Toolstack,
    Part::OlderToolstack,
];

impl Part {
    /// The path of the part.
    pub fn path(self) -> PathBuf {
        build("debian").join(match self {
            Self::Linux => "vmlinuz",
            Self::Initramfs => "initrd.img",
            Self::Dom0Modules => "dom0-modules.img",
            Self::GnuMach => "gnumach",
            Self::GnuMach32 => "gnumach-32",
            Self::PvGrub => "pvgrub",
            Self::PvGrub32 => "pvgrub-32",
            Self::Xen => "xen",
            Self::Toolstack => "toolstack.img",
            Self::OlderToolstack => "toolstack-4.17.img",
        })
    }

    fn is_current(self) -> bool {
        let made_by =
            |text: String| fs::read_to_string(stamp(self)).is_ok_and(|recorded| recorded == text);
        self.path().exists() && self.script().is_none_or(made_by)
    }

    /// The init script of a root file system, or the list of its contents. If it changes, the image is made again.
    fn script(self) -> Option<String> {
        match self {
            Self::Initramfs => Some(initramfs::INIT.to_owned()),
            Self::Dom0Modules => Some(dom0::MODULES.join(" ")),
            Self::Toolstack => Some(toolstack::made_of(toolstack::RELEASE)),
            Self::OlderToolstack => Some(toolstack::made_of(toolstack::OLDER_RELEASE)),
            Self::Linux | Self::GnuMach | Self::GnuMach32 => None,
            Self::PvGrub | Self::PvGrub32 | Self::Xen => None,
        }
    }

    fn fetch(self, archive: &Archive) -> Result<()> {
        let target = self.path();
        match self {
            Self::Linux => take(&linux(archive)?, "boot", "vmlinuz-", &target)?,
            Self::Initramfs => {
                let image = initramfs::image(&busybox(archive)?);
                fs::write(&target, image)?;
            }
            Self::Dom0Modules => fs::write(&target, dom0::modules(&linux(archive)?)?)?,
            Self::GnuMach => {
                let tree = archive.unpack("gnumach-image-1.8-xen-486")?;
                take(&tree, "boot", "gnumach-", &target)?;
            }
            Self::GnuMach32 => {
                let tree = Archive::i386()?.unpack("gnumach-image-1.8-xen-486")?;
                take(&tree, "boot", "gnumach-", &target)?;
            }
            Self::PvGrub => {
                let tree = archive.unpack("grub-xen-host")?;
                take(&tree, "usr/lib/grub-xen", "grub-x86_64-xen.bin", &target)?;
            }
            Self::PvGrub32 => {
                let tree = archive.unpack("grub-xen-host")?;
                take(&tree, "usr/lib/grub-xen", "grub-i386-xen.bin", &target)?;
            }
            Self::Xen => {
                let tree = archive.unpack("xen-hypervisor-4.20-amd64")?;
                take(&tree, "boot", "xen-4.20-amd64.gz", &target)?;
            }
            Self::Toolstack => {
                fs::write(&target, toolstack::image(archive, toolstack::RELEASE)?)?;
            }
            Self::OlderToolstack => {
                fs::write(
                    &target,
                    toolstack::image(archive, toolstack::OLDER_RELEASE)?,
                )?;
            }
        }
        if let Some(script) = self.script() {
            fs::write(stamp(self), script)?;
        }
        Ok(())
    }
}

fn linux(archive: &Archive) -> Result<PathBuf> {
    archive.unpack(&archive.dependency("linux-image-amd64", "linux-image-")?)
}

fn busybox(archive: &Archive) -> Result<Vec<u8>> {
    let tree = archive.unpack("busybox-static")?;
    let program = first_existing(&tree, &["usr/bin/busybox", "bin/busybox"])?;
    Ok(fs::read(program)?)
}

fn stamp(part: Part) -> PathBuf {
    part.path().with_extension("made-by")
}

/// Makes sure that `parts` exist, and fetches those that are missing.
///
/// # Errors
/// If a part can't be fetched.
pub fn ensure(parts: &[Part]) -> Result<()> {
    let missing: Vec<Part> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_current())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(build("debian"))?;
    let archive = Archive::open().context("Debian's packages")?;
    for part in missing {
        part.fetch(&archive)
            .with_context(|| format!("{part:?} from Debian"))?;
    }
    Ok(())
}

/// Copies the only file in `tree/folder` whose name begins with `prefix`.
fn take(tree: &Path, folder: &str, prefix: &str, target: &Path) -> Result<()> {
    let folder = tree.join(folder);
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let found = paths.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_file() && name.starts_with(prefix)
    });
    let found = found.with_context(|| format!("no {prefix}… in {}", folder.display()))?;
    fs::copy(&found, target)?;
    Ok(())
}

fn first_existing(tree: &Path, candidates: &[&str]) -> Result<PathBuf> {
    let mut paths = candidates.iter().map(|candidate| tree.join(candidate));
    paths
        .find(|path| path.exists())
        .with_context(|| format!("none of {candidates:?} in {}", tree.display()))
}
