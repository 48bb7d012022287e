//! Ring 0's stacks: a stack overflow ends in a readable panic, and so does an exception on a stack of its own.

use anyhow::{Result, ensure};
use xenlike_tests::machine::Machine;
use xenlike_tests::media::Media;
use xenlike_tests::scenario::{BOOT, power_off};
use xenlike_tests::session::Session;

/// Boots a test build that ends in the way called `end`; returns its output from `headline` on.
fn end(name: &str, end: &str, headline: &str) -> Result<String> {
    let media = Media::test_build().and(&format!("noreboot test-end={end}"));
    let mut session = Session::boot(name, &media, &Machine::default())?;
    session.allow_panic();
    session.expect(headline, BOOT)?;
    session.read_until("Stopped \\('noreboot'\\)", BOOT)
}

#[test]
#[ignore = "boots QEMU"]
fn a_boot_stack_that_is_used_up_is_a_panic() -> Result<()> {
    let report = end(
        "stacks-boot",
        "boot-stack",
        "panic on CPU0: exception 8 \\(double fault\\)",
    )?;
    let levels = report.matches("boot::ends::deeper").count();
    ensure!(levels > 10, "the backtrace shows {levels} calls:\n{report}");
    Ok(())
}

#[test]
#[ignore = "boots QEMU"]
fn a_panic_has_room_on_an_exceptions_stack() -> Result<()> {
    let report = end(
        "stacks-exception",
        "machine-check",
        "panic on .*machine check",
    )?;
    ensure!(
        report.contains("boot::ends::machine_check"),
        "the backtrace does not lead to the stack that was interrupted:\n{report}"
    );
    Ok(())
}

#[test]
#[ignore = "boots QEMU"]
fn the_boot_tells_how_deep_its_first_stack_was() -> Result<()> {
    let media = Media::xenlike().and("loglvl=all");
    let mut session = Session::boot("stacks-used", &media, &Machine::default())?;
    let line = session.expect("boot stack: [0-9]+ of [0-9]+ bytes used", BOOT)?;
    let used: u64 = line.split(' ').nth(2).unwrap_or_default().parse()?;
    ensure!(
        (1024..24 << 10).contains(&used),
        "not what a stack is used for: {line}"
    );
    session.expect_prompt(BOOT)?;
    power_off(session)
}
