//! A manifest among the modules: its domains start by themselves, and unused modules are reported.

use anyhow::{Context, Result, ensure};
use std::process::Command;
use xenlike_tests::machine::Machine;
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::{Scratch, build, root};
use xenlike_tests::scenario::{BOOT, GUEST, find_file, power_off};
use xenlike_tests::session::Session;

#[test]
#[ignore = "boots QEMU"]
fn its_domains_start() -> Result<()> {
    let scratch = Scratch::new("manifest")?;
    let manifest = scratch.path().join("manifest");
    let output = Command::new(build("bin/xenlike"))
        .arg("manifest")
        .arg("--output")
        .arg(&manifest)
        .arg(root().join("guests/configs/hello.cfg"))
        .output()
        .context("build/bin/xenlike manifest")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "xenlike manifest: {said}");
    let media = Media::test_build()
        .module(Module::with_arguments(manifest, "manifest"))
        .module(Module::file("hello", find_file("hello")?))
        .module(Module::file("", find_file("hello")?))
        .module(Module::file("hello", find_file("ticks")?));
    let mut session = Session::boot("manifest", &media, &Machine::default())?;
    session.expect("^warning: module 2: `file=` lacks a name, ignored$", BOOT)?;
    session.expect(
        "^warning: module 3: file=hello is module 1 already, ignored$",
        BOOT,
    )?;
    session.expect_prompt(BOOT)?;
    session.send_line("console hello")?;
    session.expect("^PASS hello$", GUEST)?;
    session.expect_prompt(GUEST)?;
    power_off(session)
}
