//! `scripts/test miri`: the host tests of the hypervisor's rooms that hold unsafe code, under Miri.
//!
//! Miri comes with the nightly toolchain alone, which this part installs when it is asked for by name; `scripts/test`
//! without a part runs it where it is. It runs some hundred times slower than the machine: the rooms whose
//! tests are about gigabytes of memory and hold no unsafe code stay out, and properties are tried a few times each. So
//! it takes about three minutes.

use crate::process;
use anyhow::Result;
use std::process::{Command, Stdio};

/// Which tests, by the beginnings of their names.
const ROOMS: [&str; 3] = ["kit::", "arch::", "mm::"];
/// Tests of these rooms that are not run.
const LEFT_OUT: [&str; 1] = ["mm::alloc::"];
const TOOLCHAIN: &str = "nightly";

/// Whether the toolchain is here, and Miri with it.
pub fn is_here() -> bool {
    let mut version = Command::new("rustup");
    version.args(["run", TOOLCHAIN, "cargo", "miri", "--version"]);
    let asked = version.stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Runs them; installs Miri where it is missing.
///
/// # Errors
/// When it can't be had, or a test fails.
pub fn test() -> Result<()> {
    if !is_here() {
        process::run(
            Command::new("rustup")
                .args(["toolchain", "install", TOOLCHAIN, "--profile", "minimal"])
                .args(["--component", "miri", "--component", "rust-src"]),
        )?;
    }
    let mut cargo = Command::new("rustup");
    cargo
        .args(["run", TOOLCHAIN, "cargo", "miri"])
        .args(["test", "--package", "xenlike-core", "--lib", "--"])
        .args(ROOMS);
    for left_out in LEFT_OUT {
        cargo.args(["--skip", left_out]);
    }
    // Properties look for their file of past failures, and for the time.
    cargo.env("MIRIFLAGS", "-Zmiri-disable-isolation");
    cargo.env("PROPTEST_CASES", "4");
    cargo.env("CARGO_TARGET_DIR", xenlike_tests::paths::build("miri"));
    process::run(&mut cargo)
}
