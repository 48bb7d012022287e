//! `scripts/test miri`: runs the host tests of the hypervisor's rooms that contain unsafe code under Miri.
//!
//! Miri is only in the nightly toolchain, which is installed if this part is asked for by name; `scripts/test`
//! without a part runs it only where it exists. Miri is some hundred times slower than the machine. So rooms whose
//! tests need gigabytes of memory and that contain no unsafe code are left out, and each property is tried only a few
//! times. It then takes about three minutes.

use crate::process;
use anyhow::Result;
use std::process::{Command, Stdio};

/// The tests to run, by the beginnings of their names.
const ROOMS: [&str; 3] = ["kit::", "arch::", "mm::"];
/// Rooms among them whose tests are not run.
const LEFT_OUT: [&str; 1] = ["mm::alloc::"];
const TOOLCHAIN: &str = "nightly";

/// Whether the toolchain and Miri are installed.
pub fn is_here() -> bool {
    let mut version = Command::new("rustup");
    version.args(["run", TOOLCHAIN, "cargo", "miri", "--version"]);
    let asked = version.stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Runs the tests; installs Miri if it is missing.
///
/// # Errors
/// If Miri can't be installed, or a test fails.
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
    // proptest reads the file of past failures, and the clock.
    cargo.env("MIRIFLAGS", "-Zmiri-disable-isolation");
    cargo.env("PROPTEST_CASES", "4");
    cargo.env("CARGO_TARGET_DIR", xenlike_tests::paths::build("miri"));
    process::run(&mut cargo)
}
