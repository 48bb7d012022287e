//! `scripts/test`: runs the tests and checks on the host, then those in QEMU.

use crate::build;
use crate::debian;
use crate::process;
use crate::{check, faults, frames, miri, models, nospec, report, rooms};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::process::Command;
use xenlike_tests::paths::root;

/// Options of `scripts/test`.
#[derive(Args)]
pub struct Options {
    /// Which part (default: all)
    #[arg(value_enum)]
    part: Option<TestPart>,
    /// With `qemu`, `models` and `faults`: only tests whose name has this in it
    filter: Option<String>,
    /// With `qemu`: test what is there, without building anything but the hypervisor's test build
    #[arg(long)]
    no_build: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TestPart {
    /// Formatting, lints, rooms, host tests
    Host,
    /// Boots in QEMU
    Qemu,
    /// The lock-free protocols in every interleaving, under loom
    Models,
    /// Rooms with unsafe code under Miri; without a part, only where a nightly toolchain with Miri is
    Miri,
    /// On demand: past faults, put into a copy of the tree one by one, must each make a model or test fail
    Faults,
}

/// Runs the selected parts, and prints how many steps failed.
///
/// # Errors
/// If a step failed.
pub fn test(options: &Options) -> Result<()> {
    if options.part == Some(TestPart::Miri) {
        return miri::test();
    }
    if options.part == Some(TestPart::Faults) {
        return faults::test(options.filter.as_deref());
    }
    let mut tally = Tally::default();
    let runs = |part| options.part.is_none_or(|wanted| wanted == part);
    if runs(TestPart::Host) {
        host(&mut tally);
    }
    if runs(TestPart::Models) {
        tally.step("models", || models::test(options.filter.as_deref()));
    }
    if options.part.is_none() {
        if miri::is_here() {
            tally.step("Miri", miri::test);
        } else {
            println!("\n=== Miri: left out, as no nightly toolchain with it is here");
        }
    }
    if runs(TestPart::Qemu) {
        qemu(options, &mut tally);
    }
    println!("\n{} passed, {} failed", tally.passed, tally.failed.len());
    if !tally.failed.is_empty() {
        bail!("failed: {}", tally.failed.join(", "));
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
}

impl Tally {
    fn step(&mut self, name: &str, done: impl FnOnce() -> Result<()>) -> bool {
        println!("\n=== {name}");
        match done() {
            Ok(()) => self.passed += 1,
            Err(error) => {
                eprintln!("error: {error:#}");
                self.failed.push(name.to_owned());
                return false;
            }
        }
        true
    }
}

/// Checks the format of all code. `cargo fmt` doesn't find the files of the core, as a macro declares its rooms.
fn format() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    let folder = check::core_folder();
    let files = check::sources(&folder)?;
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--edition", "2024", "--check"]);
    rustfmt.args(files.iter().map(|file| folder.join(&file.path)));
    process::run(&mut rustfmt)
        .context("`rustfmt --edition 2024` on the core's files puts them right")
}

fn host(tally: &mut Tally) {
    tally.step("format", format);
    tally.step("lints, host", || {
        cargo(&["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"])
    });
    tally.step("lints, bare metal", || {
        cargo(&[
            "clippy",
            "--quiet",
            "--target",
            "x86_64-unknown-none",
            "-p",
            "xenlike-core",
            "-p",
            "bootdom",
            "-p",
            "samples",
            "-p",
            "bench",
            "-p",
            "xenlike-door",
            "-p",
            "xenlike-rt",
            "--",
            "-D",
            "warnings",
        ])
    });
    tally.step("lints, 32 bits", || {
        let packages = ["clippy", "--quiet", "-p", "xenlike-rt", "-p", "bench"];
        let target = ["--target", "i586-unknown-linux-gnu"];
        cargo(&[&packages[..], &target[..], &["--", "-D", "warnings"]].concat())
    });
    tally.step("lints, test build", || {
        let package = ["clippy", "--quiet", "--package", "xenlike-core"];
        let build = ["--features", "audit", "--target", "x86_64-unknown-none"];
        cargo(&[&package[..], &build[..], &["--", "-D", "warnings"]].concat())
    });
    tally.step("doc links", doc_links);
    tally.step("rooms", rooms::check);
    tally.step("report", report::print);
    tally.step("host tests", || cargo(&["test", "--quiet"]));
}

/// Refuses links in comments that lead nowhere, in private items, too.
fn doc_links() -> Result<()> {
    let doc = ["doc", "--quiet", "--no-deps", "--document-private-items"];
    let bare = [
        "--target",
        "x86_64-unknown-none",
        "-p",
        "xenlike-core",
        "-p",
        "xenlike-rt",
    ];
    let host = [
        "-p",
        "guest-pv-abi",
        "-p",
        "dom0-tools",
        "-p",
        "xtask",
        "-p",
        "xenlike-tests",
    ];
    for packages in [&bare[..], &host] {
        let mut command = Command::new("cargo");
        command
            .args(doc)
            .args(packages)
            .env(
                "RUSTDOCFLAGS",
                "-D rustdoc::broken_intra_doc_links -A rustdoc::private_intra_doc_links",
            )
            .current_dir(root());
        process::run(&mut command)?;
    }
    Ok(())
}

/// The tests in QEMU are the ignored tests of the tests crate; they run two at a time.
fn qemu(options: &Options, tally: &mut Tally) {
    if !options.no_build && !tally.step("build", || build::build(&build::Options::default())) {
        return;
    }
    // Not one of the artefacts, so `build` doesn't make it.
    if !tally.step("test build", build::test_core) {
        return;
    }
    // Needed only by a test.
    let older = || debian::ensure(&[debian::Part::OlderToolstack]);
    if !tally.step("Debian 12's tools", older) {
        return;
    }
    tally.step("stack frames", frames::check);
    tally.step("guests' addresses", nospec::check);
    let mut arguments = vec!["test", "--package", "xenlike-tests", "--tests", "--"];
    arguments.extend(["--ignored", "--test-threads", "2"]);
    arguments.extend(options.filter.as_deref());
    tally.step("in QEMU", || cargo(&arguments));
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    // A failing test prints what it saw; a backtrace of the test runner would not help.
    cargo.env("RUST_LIB_BACKTRACE", "0");
    process::run(cargo.args(arguments).current_dir(root()))
}
