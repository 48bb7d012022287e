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

#[test]
#[ignore = "boots QEMU"]
fn as_dom0_alone() -> Result<()> {
    let guest = Module::with_arguments(find_file("bench")?, "");
    passes(
        "bench-alone",
        &Media::xenlike().module(guest),
        "decrease_512",
    )
}

#[test]
#[ignore = "boots QEMU"]
fn as_dom0_with_domains_of_its_own() -> Result<()> {
    let image = find_file("bench")?;
    let media = Media::xenlike()
        .and("dom0_mem=128M dom0_max_vcpus=1")
        .module(Module::with_arguments(image.clone(), ""))
        .module(Module::with_arguments(image, ""));
    passes("bench-children", &media, "domain_destroy")
}

#[test]
#[ignore = "boots QEMU"]
fn as_a_domain() -> Result<()> {
    let mut session = shell_with("bench-domain", &["bench", "bench.cfg"])?;
    let printed = session.succeed("create bench.cfg --wait", GUEST)?;
    ensure!(
        printed.contains("PASS bench"),
        "it does not pass:\n{printed}"
    );
    power_off(session)
}
