//! The benchmark guest performs all its measurements; the figures don't matter.

use anyhow::{Result, ensure};
use xenlike_tests::machine::Machine;
use xenlike_tests::media::{Media, Module};
use xenlike_tests::scenario::{GUEST, find_file, power_off, shell_with};
use xenlike_tests::session::Session;

/// Boots it as Dom0 of `media`, and waits for the line of `last`, which it prints last.
fn passes(name: &str, media: &Media, last: &str) -> Result<()> {
    let mut session = Session::boot(name, media, &Machine::default())?;
    let printed = session.read_until("^(PASS|FAIL) bench", GUEST)?;
    ensure!(
        printed.contains(&format!("bench {last} ")),
        "no figure for {last} in:\n{printed}"
    );
    Ok(())
}

/// As Dom0 without other domains.
fn alone(guest: &str) -> Result<()> {
    let module = Module::with_arguments(find_file(guest)?, "");
    let media = Media::xenlike().module(module);
    passes(&format!("{guest}-alone"), &media, "decrease_512")
}

#[test]
#[ignore = "boots QEMU"]
fn as_dom0_alone() -> Result<()> {
    alone("bench")
}

#[test]
#[ignore = "boots QEMU"]
fn narrow_as_dom0_alone() -> Result<()> {
    alone("bench-32")
}

/// As Dom0 that makes domains of `child`.
fn with_domains(child: &str) -> Result<()> {
    let media = Media::xenlike()
        .and("dom0_mem=128M dom0_max_vcpus=1")
        .module(Module::with_arguments(find_file("bench")?, ""))
        .module(Module::with_arguments(find_file(child)?, ""));
    passes(&format!("{child}-children"), &media, "domain_destroy")
}

#[test]
#[ignore = "boots QEMU"]
fn as_dom0_with_domains_of_its_own() -> Result<()> {
    with_domains("bench")
}

#[test]
#[ignore = "boots QEMU"]
fn as_dom0_with_narrow_domains() -> Result<()> {
    with_domains("bench-32")
}

fn in_a_domain(guest: &str) -> Result<()> {
    let mut session = shell_with(&format!("{guest}-domain"), &[guest, "bench.cfg"])?;
    let create = format!("create bench.cfg kernel={guest} --wait");
    let printed = session.succeed(&create, GUEST)?;
    ensure!(
        printed.contains("PASS bench"),
        "it does not pass:\n{printed}"
    );
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn as_a_domain() -> Result<()> {
    in_a_domain("bench")
}

#[test]
#[ignore = "boots QEMU"]
fn narrow_as_a_domain() -> Result<()> {
    in_a_domain("bench-32")
}
