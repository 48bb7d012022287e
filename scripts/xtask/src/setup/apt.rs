//! Installs Debian packages; on Debian 12, QEMU comes from backports.

use crate::debian::sources;
use crate::process;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;

const BACKPORTS_LIST: &str = "/etc/apt/sources.list.d/xenlike-backports.list";

/// Whether this machine installs packages by apt.
pub fn is_here() -> bool {
    process::exists("apt-get") && Path::new("/etc/debian_version").exists()
}

/// Installs `packages`, as root or by sudo.
///
/// # Errors
/// If the installation fails.
pub fn install(packages: &[&str]) -> Result<()> {
    let backports = backports_suite()?;
    if let Some(suite) = &backports {
        add_suite(suite)?;
    }
    process::run(process::as_root("apt-get")?.arg("update"))?;
    let (from_backports, usual): (Vec<&str>, Vec<&str>) = packages
        .iter()
        .partition(|package| backports.is_some() && package.starts_with("qemu-"));
    if let Some(suite) = backports.filter(|_| !from_backports.is_empty()) {
        install_from(&from_backports, &["-t", &suite])?;
    }
    if !usual.is_empty() {
        install_from(&usual, &[])?;
    }
    Ok(())
}

fn install_from(packages: &[&str], options: &[&str]) -> Result<()> {
    let mut command = process::as_root("apt-get")?;
    command
        .args(["install", "-y", "--no-install-recommends"])
        .args(options)
        .args(packages);
    process::run(&mut command)
}

/// Debian 12's own QEMU is 7.2; its backports have a newer one.
fn backports_suite() -> Result<Option<String>> {
    let release = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let old = release.contains("ID=debian\n") && release.contains("VERSION_ID=\"12\"");
    Ok(old.then(|| "bookworm-backports".to_owned()))
}

/// Adds `suite` to the suites that this machine takes from its Debian mirror.
fn add_suite(suite: &str) -> Result<()> {
    let targets = sources::configured()?;
    if targets.iter().any(|target| target.codename == suite) {
        return Ok(());
    }
    let mirror = sources::debian_mirror(&targets)?;
    let line = sources::list_line(&mirror, suite, "amd64");
    let mut tee = process::as_root("tee")?;
    tee.arg(BACKPORTS_LIST);
    println!("setup: adding {suite} to {BACKPORTS_LIST}");
    feed(&mut tee, &line)
}

fn feed(command: &mut Command, text: &str) -> Result<()> {
    use std::io::Write;
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(text.as_bytes())?;
    }
    if !child.wait()?.success() {
        bail!("writing {BACKPORTS_LIST} failed");
    }
    Ok(())
}
