//! A Debian 13 root file system on a disk image, made of Debian's packages, with systemd up to a login.
//!
//! The image is kept until the script that makes it or the list of packages changes. Making it needs root (or sudo),
//! since the packages' own scripts run in it.

use super::archive::Archive;
use crate::process;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use xenlike_tests::paths::build;

/// Packages in addition to the essential ones and all dependencies.
const PACKAGES: [&str; 13] = [
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "udev",
    "kmod",
    "login",
    "passwd",
    "mount",
    "e2fsprogs",
    "iproute2",
    "netbase",
    "procps",
    "pciutils",
];

const SCRIPT: &str = include_str!("root.sh");

/// The path of the image.
pub fn path() -> PathBuf {
    build("debian/root.img")
}

fn made_by() -> String {
    format!("{SCRIPT}\n{}\n", PACKAGES.join(" "))
}

/// Makes the image, unless it exists.
///
/// # Errors
/// If a package is missing, or installing fails.
pub fn ensure() -> Result<()> {
    let stamp = path().with_extension("made-by");
    if path().exists() && fs::read_to_string(&stamp).is_ok_and(|text| text == made_by()) {
        return Ok(());
    }
    fs::create_dir_all(build("debian"))?;
    let archive = Archive::open().context("Debian's packages")?;
    println!("making a Debian root file system of packages");
    let packages = archive.with_essential(&PACKAGES)?;
    let linux = super::linux(&archive)?.join("usr/lib/modules");
    let folder = build(".cache/debian/root");
    fs::create_dir_all(&folder)?;
    let script = folder.join("root.sh");
    fs::write(&script, SCRIPT)?;
    let mut make = process::as_root("sh")?;
    make.arg(&script).arg(folder.join("tree")).arg(packages);
    process::output(make.arg(linux).arg(path())).context("the root file system")?;
    Ok(fs::write(stamp, made_by())?)
}
