//! Runs cargo and collects the executables that it builds.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use xenlike_tests::paths::root;

const BARE_METAL: &str = "x86_64-unknown-none";

/// Builds packages for bare metal in release mode, with the given features.
///
/// # Errors
/// If the build fails.
pub fn bare_metal(
    packages: &[&str],
    features: &[&str],
    environment: &[(&str, &OsStr)],
) -> Result<Vec<PathBuf>> {
    let mut cargo = release_build(BARE_METAL, packages);
    for feature in features {
        cargo.args(["--features", feature]);
    }
    cargo.envs(environment.iter().copied());
    executables(cargo)
}

/// The target of 32-bit guests: it has no SSE, which a guest's kernel doesn't use. It is Linux's, so that the flags
/// below leave out Linux's linker and libraries.
const NARROW: &str = "i586-unknown-linux-gnu";
const NARROW_FLAGS: &str = "-C relocation-model=static -C panic=abort -C linker=rust-lld -C linker-flavor=ld.lld -C link-self-contained=no";

/// Builds executables of a package of guests for 32 bits, in release mode.
///
/// # Errors
/// If the target isn't installed, or the build fails.
pub fn narrow_guests(package: &str, names: &[&str]) -> Result<Vec<PathBuf>> {
    if !has_target(NARROW)? {
        bail!("the Rust target {NARROW} is missing: run scripts/setup");
    }
    let mut cargo = release_build(NARROW, &[package]);
    cargo.env("RUSTFLAGS", NARROW_FLAGS);
    for name in names {
        cargo.args(["--bin", name]);
    }
    built(cargo)
}

/// Flags for a static program at a fixed address, which is needed to count instructions by address.
const STATIC: &str = "-C target-feature=+crt-static -C relocation-model=static";

/// Builds a package for this machine's Linux as a static program: with musl where that target is installed, otherwise
/// with the static glibc.
///
/// # Errors
/// If the build fails.
pub fn static_host(package: &str) -> Result<Vec<PathBuf>> {
    let musl = "x86_64-unknown-linux-musl";
    let target = if has_target(musl)? {
        musl
    } else {
        "x86_64-unknown-linux-gnu"
    };
    let mut cargo = release_build(target, &[package]);
    cargo.env("RUSTFLAGS", STATIC);
    executables(cargo)
}

fn release_build(target: &str, packages: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--target", target]);
    for package in packages {
        cargo.args(["-p", package]);
    }
    cargo
}

fn has_target(target: &str) -> Result<bool> {
    let sysroot = crate::process::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let library = PathBuf::from(sysroot.trim())
        .join("lib/rustlib")
        .join(target);
    Ok(library.join("lib").is_dir())
}

/// Builds a package's shared library for this machine.
///
/// # Errors
/// If the build fails.
pub fn shared_library(package: &str) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--lib", "-p", package]);
    let messages = messages(cargo)?;
    let files = messages
        .iter()
        .filter_map(|message| message.get("filenames")?.as_array())
        .flatten();
    let library = files
        .filter_map(Value::as_str)
        .find(|name| name.ends_with(".so"));
    Ok(library
        .with_context(|| format!("{package} made no library"))?
        .into())
}

/// Runs a build and collects the executables that cargo reports.
fn executables(mut cargo: Command) -> Result<Vec<PathBuf>> {
    cargo.arg("--bins");
    built(cargo)
}

/// Like [`executables`], for a command that names them.
fn built(cargo: Command) -> Result<Vec<PathBuf>> {
    let messages = messages(cargo)?;
    let found = messages
        .iter()
        .filter_map(|message| Some(message.get("executable")?.as_str()?.into()));
    Ok(found.collect())
}

/// Runs a build and returns cargo's messages.
fn messages(mut cargo: Command) -> Result<Vec<Value>> {
    let output = cargo
        .args(["--quiet", "--message-format=json-render-diagnostics"])
        .current_dir(root())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo")?;
    if !output.status.success() {
        bail!("cargo build failed");
    }
    let reported = String::from_utf8_lossy(&output.stdout);
    let messages = reported
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages.collect())
}
