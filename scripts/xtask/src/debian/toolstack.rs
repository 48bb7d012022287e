//! Debian's own Xen tools (xl, xenstored, xenconsoled), to append to a Dom0's root file system,
//! whose init starts them.

use super::archive::Archive;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use xenlike_tests::cpio::{self, Entry};

/// The Xen release in Debian 13.
pub const RELEASE: &str = "4.20";
/// The Xen release in Debian 12.
pub const OLDER_RELEASE: &str = "4.17";

/// Libraries other than the C library with which the tools are linked, directly or indirectly, besides
/// those of their release.
const LINKED: [&str; 4] = ["libxenstore4", "libxenhypfs1", "libyajl2", "libncurses6"];

/// The package with `xenstore-ls`.
const XENSTORE_UTILS: &str = "xenstore-utils";

/// The package with terminal descriptions.
const NCURSES_BASE: &str = "ncurses-base";

/// A description of a release's archive; if it changes, the archive is made again.
pub fn made_of(release: &str) -> String {
    format!(
        "{release} {} {XENSTORE_UTILS} {NCURSES_BASE}",
        LINKED.join(" ")
    )
}

/// Makes the archive of a release.
///
/// # Errors
/// If a package is missing.
pub fn image(archive: &Archive, release: &str) -> Result<Vec<u8>> {
    let mut image = cpio::Archive::default();
    for folder in ["usr", "usr/lib", "usr/lib/x86_64-linux-gnu", "var", "run"] {
        image.add(folder, &Entry::Directory);
    }
    image.add("lib", &Entry::Link("usr/lib"));
    image.add("lib64", &Entry::Link("usr/lib/x86_64-linux-gnu"));
    let libraries = "usr/lib/x86_64-linux-gnu";
    let misc = format!("libxenmisc{release}");
    let linked = [&[misc.as_str()][..], &LINKED].concat();
    for package in archive.libraries(&linked)? {
        let folder = archive.unpack(&package)?.join(libraries);
        add_files(&mut image, &folder, libraries, &|name| name.contains(".so"))?;
    }
    let tools = archive.unpack(&format!("xen-utils-{release}"))?;
    let folder = format!("usr/lib/xen-{release}");
    let programs = &format!("{folder}/bin");
    for folder in [&folder, programs] {
        image.add(folder, &Entry::Directory);
    }
    add_files(&mut image, &tools.join(programs), programs, &|_| true)?;
    // Tools that show the Xenstore: xenstore-ls and similar ones.
    let shows = archive.unpack(XENSTORE_UTILS)?;
    add_files(&mut image, &shows.join("usr/bin"), programs, &|_| true)?;
    add_terminals(&mut image, &archive.unpack(NCURSES_BASE)?)?;
    Ok(image.finish())
}

/// Adds the terminal descriptions that xentop needs.
fn add_terminals(image: &mut cpio::Archive, package: &Path) -> Result<()> {
    let terminals = "usr/share/terminfo";
    for folder in ["usr/share", terminals] {
        image.add(folder, &Entry::Directory);
    }
    for (letter, terminal) in [("l", "linux"), ("v", "vt100"), ("x", "xterm-256color")] {
        let place = format!("{terminals}/{letter}");
        image.add(&place, &Entry::Directory);
        let folder = package.join(&place);
        add_files(image, &folder, &place, &|name| name == terminal)?;
    }
    Ok(())
}

/// An archive to append, with files for `/root`.
///
/// # Errors
/// If a file can't be read.
pub fn files_for_root(files: &[(String, PathBuf)], script: &str) -> Result<Vec<u8>> {
    let mut image = cpio::Archive::default();
    for (name, path) in files {
        let content = fs::read(path).with_context(|| path.display().to_string())?;
        image.add(&format!("root/{name}"), &Entry::File(&content));
    }
    image.add("root/run", &Entry::File(script.as_bytes()));
    Ok(image.finish())
}

/// Adds those files and links of a folder, if it exists, that `wanted` selects by name.
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
