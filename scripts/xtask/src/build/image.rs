//! `build/xenlike.iso`: the hypervisor, and the files for its shell.

use crate::debian::Part;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::{build, root};

/// Writes the standard image.
///
/// # Errors
/// If a part is missing or GRUB's tools fail.
pub fn xenlike_iso() -> Result<()> {
    Media::xenlike()
        .modules(shell_files()?)
        .write(&build("xenlike.iso"))
}

/// The files for the shell of the embedded control domain: the sample guests, the 32-bit ones that have a configuration
/// as `NAME-32`, the example configurations, and those of Debian's kernels that were fetched.
///
/// # Errors
/// If a folder can't be read.
pub fn shell_files() -> Result<Vec<Module>> {
    let mut files = Vec::new();
    for folder in [build("guests"), root().join("guests/configs")] {
        files.extend(sorted_files(&folder)?.into_iter().map(named));
    }
    for path in sorted_files(&build("guests32"))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{name}-32");
        if root().join(format!("guests/configs/{name}.cfg")).exists() {
            files.push(Module::file(&name, path.clone()));
        }
    }
    let debian = [
        Part::Linux,
        Part::Initramfs,
        Part::GnuMach,
        Part::GnuMach32,
        Part::PvGrub,
        Part::PvGrub32,
    ];
    files.extend(
        debian
            .map(Part::path)
            .into_iter()
            .filter(|path| path.exists())
            .map(named),
    );
    Ok(files)
}

fn named(path: PathBuf) -> Module {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Module::file(&name, path)
}

fn sorted_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() {
                paths.push(path);
            }
        }
    }
    paths.sort();
    Ok(paths)
}
