//! The root file system of a Linux Dom0. Compared with a guest's, it also has kernel modules for the machine's
//! devices and for the toolstack, which Debian's kernel doesn't contain, the toolstack itself, and a guest for it.

use super::Part;
use super::modules::Modules;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use xenlike_tests::cpio::{Archive, Entry};
use xenlike_tests::paths::{build, root};

/// Modules that its init script loads.
pub const MODULES: [&str; 19] = [
    "xen-privcmd",
    "xenfs",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-blkback",
    "ahci",
    "ata_piix",
    "sd_mod",
    "virtio_blk",
    "nvme",
    "crc32c_generic",
    "ext4",
    "e1000",
    "virtio_net",
    "xhci-pci",
    "usbhid",
    "hid-generic",
    "evdev",
];

/// An archive of the modules, to append to the guest's.
///
/// # Errors
/// If the kernel package lacks a module.
pub fn modules(linux: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.add("modules", &Entry::Directory);
    let modules = Modules::below(linux)?;
    for (number, name) in modules.with_dependencies(&MODULES)?.iter().enumerate() {
        let place = format!("modules/{number:02}-{name}.ko");
        archive.add(&place, &Entry::File(&modules.content(name)?));
    }
    Ok(archive.finish())
}

/// The root file system with which every Dom0 here begins: the guest's, the modules, and Debian's tools.
///
/// # Errors
/// If a part is missing.
pub fn base() -> Result<Vec<u8>> {
    let mut image = Vec::new();
    for part in [Part::Initramfs, Part::Dom0Modules, Part::Toolstack] {
        let path = part.path();
        image.extend(fs::read(&path).with_context(|| path.display().to_string())?);
    }
    Ok(image)
}

/// Writes `build/dom0.img`, the whole initrd: that root file system, `xenlike`, and guests in `/root`.
///
/// # Errors
/// If a part is missing.
pub fn write_initrd() -> Result<()> {
    let mut archive = Archive::default();
    let program = fs::read(build("bin/xenlike")).context("build/bin/xenlike")?;
    archive.add("bin/xenlike", &Entry::Program(&program));
    let files = [
        ("debian.cfg", root().join("guests/configs/debian.cfg")),
        ("vmlinuz", Part::Linux.path()),
        ("initrd.img", Part::Initramfs.path()),
        ("hello.cfg", root().join("guests/configs/hello.cfg")),
        ("hello", build("guests/hello")),
        ("hello-32.cfg", root().join("guests/configs/hello-32.cfg")),
        ("hello-32", build("guests32/hello")),
    ];
    for (name, path) in files {
        let content = fs::read(&path).with_context(|| path.display().to_string())?;
        archive.add(&format!("root/{name}"), &Entry::File(&content));
    }
    let mut image = base()?;
    image.extend(archive.finish());
    Ok(fs::write(initrd(), image)?)
}

/// The path of the initrd that [`write_initrd`] writes.
pub fn initrd() -> std::path::PathBuf {
    build("dom0.img")
}
