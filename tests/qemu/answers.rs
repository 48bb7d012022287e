//! A kernel that resembles the test kernels of other projects, as Domain-0. It checks for real Xen's answers, and
//! also passes on Xen (`cargo run -p xtask -- oracle --kernel build/guests/answers`). Its 32-bit form has no such
//! oracle, since Debian builds Xen without 32-bit PV guests.

use anyhow::{Result, ensure};
use xenlike_tests::machine::Machine;
use xenlike_tests::media::{Media, Module};
use xenlike_tests::scenario::{GUEST, find_file};
use xenlike_tests::session::Session;

/// Minimum number of checks, slightly below what the guest makes, to notice a run that ended early.
const CHECKS: usize = 155;

fn passes(kernel: &str, name: &str, cpus: u32, cpu: &str) -> Result<()> {
    let machine = Machine {
        cpus,
        cpu: cpu.to_owned(),
        ..Machine::default()
    };
    let media = Media::test_build().module(Module::with_arguments(find_file(kernel)?, ""));
    let mut session = Session::boot(&format!("{kernel}-{name}"), &media, &machine)?;
    let printed = session.read_until("^(PASS|FAIL) answers", GUEST)?;
    let failed: Vec<&str> = printed.lines().filter(|l| l.starts_with("NOT ")).collect();
    ensure!(failed.is_empty(), "{failed:#?} in:\n{printed}");
    let held = printed.lines().filter(|l| l.starts_with("ok ")).count();
    ensure!(held >= CHECKS, "only {held} checks in:\n{printed}");
    session.expect("domain 0 has shut down", GUEST)?;
    Ok(())
}

const INTEL: &str = "max,vendor=GenuineIntel";

#[test]
#[ignore = "boots QEMU"]
fn on_1_cpu() -> Result<()> {
    passes("answers", "1", 1, "max")
}

#[test]
#[ignore = "boots QEMU"]
fn on_2_cpus() -> Result<()> {
    passes("answers", "2", 2, "max")
}

#[test]
#[ignore = "boots QEMU"]
fn on_intel() -> Result<()> {
    passes("answers", "intel", 2, INTEL)
}

#[test]
#[ignore = "boots QEMU"]
fn narrow_on_1_cpu() -> Result<()> {
    passes("answers-32", "1", 1, "max")
}

#[test]
#[ignore = "boots QEMU"]
fn narrow_on_2_cpus() -> Result<()> {
    passes("answers-32", "2", 2, "max")
}

#[test]
#[ignore = "boots QEMU"]
fn narrow_on_intel() -> Result<()> {
    passes("answers-32", "intel", 2, INTEL)
}
