//! A root file system with Debian's own Xen tools (xl, xenstored, xenconsoled), for Linux as Dom0.

use super::archive::Archive;
use super::initramfs;
use super::modules::Modules;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use xenlike_tests::cpio::{self, Entry};

/// Starts the daemons, then what `/root/run` says, then a shell.
pub const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /run/xen /run/lock /var/lib/xenstored /var/lib/xen /var/log/xen /etc/xen
/bin/busybox --install -s /bin
/bin/busybox ln -s /run /var/run
/bin/busybox ln -s /run/lock /var/lock
export HOME=/root TERM=${TERM:-vt100} PS1='dom0# '
export PATH=/bin:/usr/lib/xen-4.20/bin LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
for module in /modules/*.ko; do insmod "$module"; done
# Devices are found while the shell is there already: only errors may break into its lines.
dmesg -n 4
mount -t xenfs xenfs /proc/xen
echo 'autoballoon="off"' > /etc/xen/xl.conf
echo "init: $(uname -srm), toolstack"
xenstored --pid-file /run/xenstored.pid
xen-init-dom0
mkdir -p /var/log/xen/console
xenconsoled --pid-file=/run/xenconsoled.pid --log=guest
cd /root
setsid sh -c "exec </dev/hvc0 >/dev/hvc0 2>&1; [ ! -f run ] || sh ./run; exec sh -i"
poweroff -f
"#;

/// Kernel modules that the tools need: Debian's kernel has them outside.
const MODULES: [&str; 5] = [
    "xen-privcmd",
    "xenfs",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
];

/// Libraries beyond the C library that the tools are linked with, directly or not.
const LINKED: [&str; 5] = [
    "libxenmisc4.20",
    "libxenstore4",
    "libxenhypfs1",
    "libyajl2",
    "libncurses6",
];

/// The archive.
///
/// # Errors
/// When a package can't be had.
pub fn image(archive: &Archive, busybox: &[u8], linux: &Path) -> Result<Vec<u8>> {
    let mut image = cpio::Archive::default();
    initramfs::base(&mut image, busybox);
    for folder in [
        "usr",
        "usr/lib",
        "usr/lib/x86_64-linux-gnu",
        "modules",
        "var",
        "run",
    ] {
        image.add(folder, &Entry::Directory);
    }
    image.add("lib", &Entry::Link("usr/lib"));
    image.add("lib64", &Entry::Link("usr/lib/x86_64-linux-gnu"));
    let libraries = "usr/lib/x86_64-linux-gnu";
    for package in archive.libraries(&LINKED)? {
        let folder = archive.unpack(&package)?.join(libraries);
        add_files(&mut image, &folder, libraries, &|name| name.contains(".so"))?;
    }
    let tools = archive.unpack("xen-utils-4.20")?;
    for folder in ["usr/lib/xen-4.20", "usr/lib/xen-4.20/bin"] {
        image.add(folder, &Entry::Directory);
    }
    let programs = "usr/lib/xen-4.20/bin";
    add_files(&mut image, &tools.join(programs), programs, &|_| true)?;
    let modules = Modules::below(linux)?;
    for (number, name) in MODULES.iter().enumerate() {
        let module = modules.content(name)?;
        image.add(
            &format!("modules/{number}-{name}.ko"),
            &Entry::File(&module),
        );
    }
    image.add("init", &Entry::Program(INIT.as_bytes()));
    Ok(image.finish())
}

/// An archive to append: files for `/root`.
///
/// # Errors
/// When a file can't be read.
pub fn files_for_root(files: &[(String, PathBuf)], script: &str) -> Result<Vec<u8>> {
    let mut image = cpio::Archive::default();
    for (name, path) in files {
        let content = fs::read(path).with_context(|| path.display().to_string())?;
        image.add(&format!("root/{name}"), &Entry::File(&content));
    }
    image.add("root/run", &Entry::File(script.as_bytes()));
    Ok(image.finish())
}

/// Adds the files and links of one folder, if there is one, that `wanted` picks by name.
fn add_files(
    image: &mut cpio::Archive,
    folder: &Path,
    target: &str,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let place = format!("{target}/{name}");
        if !wanted(&name) {
            continue;
        }
        if path.is_symlink() {
            let link = fs::read_link(&path)?;
            image.add(&place, &Entry::Link(&link.to_string_lossy()));
        } else if path.is_file() {
            image.add(&place, &Entry::Program(&fs::read(&path)?));
        }
    }
    Ok(())
}
