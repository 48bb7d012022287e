//! What a Linux Dom0's root file system has besides that of a guest: kernel modules for the machine's devices
//! and for the toolstack, which Debian's kernel has outside; then the toolstack itself and a guest for it.

use super::Part;
use super::modules::Modules;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use xenlike_tests::cpio::{Archive, Entry};
use xenlike_tests::paths::{build, root};

/// Modules that its init script loads.
pub const MODULES: [&str; 18] = [
    "xen-privcmd",
    "xenfs",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
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

/// An archive of them, to append to the guest's.
///
/// # Errors
/// When the kernel package lacks one.
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

/// The root that every Dom0 here begins with: the guest's, the modules, Debian's tools.
///
/// # Errors
/// When a part is missing.
pub fn base() -> Result<Vec<u8>> {
    let mut image = Vec::new();
    for part in [Part::Initramfs, Part::Dom0Modules, Part::Toolstack] {
        let path = part.path();
        image.extend(fs::read(&path).with_context(|| path.display().to_string())?);
    }
    Ok(image)
}

/// Writes `build/dom0.img`, the whole initrd: that root, `xenlike`, and in `/root` guests.
///
/// # Errors
/// When a part is missing.
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
    ];
    for (name, path) in files {
        let content = fs::read(&path).with_context(|| path.display().to_string())?;
        archive.add(&format!("root/{name}"), &Entry::File(&content));
    }
    let mut image = base()?;
    image.extend(archive.finish());
    Ok(fs::write(initrd(), image)?)
}

/// Where [`write_initrd`] puts it.
pub fn initrd() -> std::path::PathBuf {
    build("dom0.img")
}
