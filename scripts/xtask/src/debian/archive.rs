//! A private view of Debian's archive, with lists and cache below `build/` and apt's own signature checks.

use super::sources;
use crate::process;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use xenlike_tests::paths::build;

/// Debian 13 has the kernel, Xen and busybox; GNU Mach's `-xen-486` build is in Debian 12.
const SUITES: [&str; 2] = ["trixie", "bookworm"];

/// The private lists and cache for one architecture.
pub struct Archive {
    folder: PathBuf,
    architecture: &'static str,
}

impl Archive {
    /// Opens the archive for amd64 and reads the newest lists.
    ///
    /// # Errors
    /// If there is no apt or no mirror, or a signature is wrong.
    pub fn open() -> Result<Self> {
        Self::open_for("amd64", build(".cache/debian"), &SUITES)
    }

    /// Opens Debian 12's archive for i386, which has kernels that newer releases have no more.
    ///
    /// # Errors
    /// As for `open`.
    pub fn i386() -> Result<Self> {
        Self::open_for("i386", build(".cache/debian-i386"), &["bookworm"])
    }

    fn open_for(architecture: &'static str, folder: PathBuf, suites: &[&str]) -> Result<Self> {
        if !process::exists("apt-get") || !process::exists("dpkg-deb") {
            bail!("fetching Debian packages needs apt-get and dpkg-deb");
        }
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("archives/partial"))?;
        let mirror = sources::debian_mirror(&sources::configured()?)?;
        let lines: String = suites
            .iter()
            .map(|suite| sources::list_line(&mirror, suite, architecture))
            .collect();
        fs::write(folder.join("sources.list"), lines)?;
        let archive = Self {
            folder,
            architecture,
        };
        process::output(archive.apt("apt-get").arg("update"))?;
        Ok(archive)
    }

    /// The newest version of a package.
    ///
    /// # Errors
    /// If there is no such package.
    pub fn version(&self, package: &str) -> Result<String> {
        let listed = process::output(self.apt("apt-cache").args(["madison", package]))?;
        let version = listed
            .lines()
            .next()
            .and_then(|line| line.split('|').nth(1));
        let version = version.with_context(|| format!("Debian has no package {package}"))?;
        Ok(version.trim().to_owned())
    }

    /// The package on which the empty `package` depends and whose name begins with `prefix`.
    ///
    /// # Errors
    /// If there is no such package.
    pub fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        let listed = process::output(self.apt("apt-cache").args(["depends", package]))?;
        let names = listed
            .lines()
            .filter_map(|line| line.split_once("Depends: "));
        let mut fitting = names
            .map(|(_, name)| name.trim())
            .filter(|name| name.starts_with(prefix));
        let name = fitting
            .next()
            .with_context(|| format!("{package} depends on no {prefix}…"))?;
        Ok(name.to_owned())
    }

    /// The library packages (recognised by their names) that `packages` need, directly or indirectly.
    ///
    /// # Errors
    /// If apt can't tell.
    pub fn libraries(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut depends = self.apt("apt-cache");
        depends
            .args(["depends", "--recurse", "--no-recommends", "--no-suggests"])
            .args([
                "--no-breaks",
                "--no-conflicts",
                "--no-replaces",
                "--no-enhances",
            ])
            .args(packages);
        let listed = process::output(&mut depends)?;
        let names = listed
            .lines()
            .filter(|line| !line.starts_with(' ') && line.contains("lib"));
        Ok(names.map(str::to_owned).collect())
    }

    /// Fetches a package and unpacks it; returns the folder.
    ///
    /// # Errors
    /// If fetching, checking or unpacking fails.
    pub fn unpack(&self, package: &str) -> Result<PathBuf> {
        let version = self.version(package)?;
        let name = format!("{package}_{}", version.replace([':', '/'], "_"));
        let tree = self.folder.join("trees").join(&name);
        if tree.exists() {
            return Ok(tree);
        }
        println!("fetching {package} {version} from Debian");
        let downloads = self.folder.join("archives").join(&name);
        fs::create_dir_all(&downloads)?;
        process::output(
            self.apt("apt-get")
                .arg("download")
                .arg(format!("{package}={version}"))
                .current_dir(&downloads),
        )?;
        let deb = single_file(&downloads)?;
        let partial = tree.with_extension("partial");
        fs::create_dir_all(&partial)?;
        process::output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&partial))?;
        fs::rename(&partial, &tree)?;
        fs::remove_dir_all(&downloads)?;
        Ok(tree)
    }

    /// Fetches all essential packages, `packages`, and their dependencies; returns the folder
    /// that contains exactly these.
    ///
    /// # Errors
    /// If fetching or checking fails.
    pub fn with_essential(&self, packages: &[&str]) -> Result<PathBuf> {
        let folder = self.folder.join("sets").join(packages.join("-"));
        fs::create_dir_all(folder.join("partial"))?;
        // The target system has nothing installed yet.
        let status = self.folder.join("nothing-installed");
        fs::write(&status, "")?;
        let mut install = self.apt("apt-get");
        install
            .args(["-o", &format!("Dir::State::status={}", status.display())])
            .args(["-o", &format!("Dir::Cache::archives={}", folder.display())])
            .args(["--yes", "--no-install-recommends", "--download-only"])
            .args(["install", "?essential"])
            .args(packages);
        process::output(&mut install)?;
        Ok(folder)
    }

    fn apt(&self, program: &str) -> Command {
        let option = |name: &str, value: &Path| format!("{name}={}", value.display());
        let mut command = Command::new(program);
        let nothing = Path::new("/dev/null");
        for setting in [
            option("Dir::Etc::SourceList", &self.folder.join("sources.list")),
            option("Dir::Etc::SourceParts", nothing),
            option("Dir::Etc::Preferences", nothing),
            option("Dir::Etc::PreferencesParts", nothing),
            option("Dir::State::Lists", &self.folder.join("lists")),
            option("Dir::Cache", &self.folder),
            // apt writes only this user's own files, so it needn't switch to another user.
            "APT::Sandbox::User=".to_owned(),
            format!("APT::Architecture={}", self.architecture),
            format!("APT::Architectures={}", self.architecture),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ] {
            command.args(["-o", &setting]);
        }
        command
    }
}

fn single_file(folder: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let deb = files.find(|path| path.extension().is_some_and(|end| end == "deb"));
    deb.with_context(|| format!("apt put no package into {}", folder.display()))
}
