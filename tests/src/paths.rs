//! Paths in the working tree.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io, process};

/// The root of the working tree. A checkout may be moved or copied with its build results, so the root is searched
/// for at run time: above the package that cargo runs, or above the current folder.
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let places = package.into_iter().chain(env::current_dir());
        let mut roots = places.filter_map(|place| root_above(&place));
        let built_in = || Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        roots.next().unwrap_or_else(built_in)
    });
    &ROOT
}

/// The nearest enclosing folder that is a root of the working tree.
fn root_above(place: &Path) -> Option<PathBuf> {
    let is_root = |folder: &&Path| folder.join("xenlike-core/Cargo.toml").is_file();
    place.ancestors().find(is_root).map(Path::to_owned)
}

/// A path below `build/`, where every artefact goes.
pub fn build(relative: &str) -> PathBuf {
    root().join("build").join(relative)
}

/// A temporary directory, removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a new directory below `build/tmp`.
    ///
    /// # Errors
    /// If the directory can't be made.
    pub fn new(label: &str) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let parent = build("tmp");
        if number == 0 {
            remove_leftovers(&parent);
        }
        let path = parent.join(format!("{label}-{}-{number}", process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover directory below build/ does no harm.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes directories that killed processes left behind.
fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.rsplit('-').nth(1);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another process may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn the_root_is_found_from_below() -> io::Result<()> {
        let scratch = Scratch::new("root")?;
        let copy = scratch.path().join("copy");
        fs::create_dir_all(copy.join("xenlike-core"))?;
        fs::create_dir_all(copy.join("scripts/xtask"))?;
        fs::write(copy.join("xenlike-core/Cargo.toml"), "")?;
        assert_eq!(root_above(&copy.join("scripts/xtask")), Some(copy.clone()));
        assert_eq!(root_above(&copy), Some(copy));
        Ok(())
    }

    /// Makes a fake program from a script.
    fn pretend(folder: &Path, name: &str, script: &str) -> io::Result<()> {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
    }

    /// `scripts/setup` discards build results from another place, and nothing else.
    #[test]
    fn a_moved_checkout_is_built_again() -> io::Result<()> {
        let scratch = Scratch::new("moved")?;
        let (copy, programs) = (scratch.path().join("copy"), scratch.path().join("bin"));
        for folder in [&programs, &copy.join("scripts"), &copy.join("target")] {
            fs::create_dir_all(folder)?;
        }
        for target in ["x86_64-unknown-none", "i586-unknown-linux-gnu"] {
            fs::create_dir_all(scratch.path().join("lib/rustlib").join(target))?;
        }
        pretend(&programs, "cargo", "mkdir -p target")?;
        pretend(
            &programs,
            "rustc",
            &format!("echo {}", scratch.path().display()),
        )?;
        fs::copy(root().join("scripts/setup"), copy.join("scripts/setup"))?;
        let (built, place) = (copy.join("target/built"), copy.join("target/place"));
        let setup = || -> io::Result<()> {
            let path = format!("{}:/usr/bin:/bin", programs.display());
            let mut setup = Command::new(copy.join("scripts/setup"));
            assert!(setup.env("PATH", path).status()?.success());
            Ok(())
        };
        fs::write(&built, "")?;
        setup()?;
        assert!(built.exists(), "nothing says that it was moved");
        setup()?;
        assert!(built.exists(), "it was not moved");
        fs::write(&place, "/elsewhere\n")?;
        setup()?;
        assert!(!built.exists(), "it was moved");
        assert_eq!(
            fs::read_to_string(&place)?.trim(),
            copy.display().to_string()
        );
        Ok(())
    }
}
