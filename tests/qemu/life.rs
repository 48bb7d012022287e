//! Creating and destroying domains repeatedly loses no frame.

use anyhow::{Result, ensure};
use xenlike_tests::machine::Machine;
use xenlike_tests::scenario::{
    GUEST, SHORT, boot_to_prompt, free_frames, media_with, power_off, shell_with,
};
use xenlike_tests::session::Session;

/// Number of rounds of create and destroy; `XENLIKE_ROUNDS=1000` for more.
fn rounds() -> u32 {
    let asked = std::env::var("XENLIKE_ROUNDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(20)
}

#[test]
#[ignore = "boots QEMU"]
fn no_frame_is_lost_over_many_lives() -> Result<()> {
    let mut session = shell_with("life-rounds", &["ticks", "ticks.cfg"])?;
    session.succeed("create ticks.cfg", GUEST)?;
    session.succeed("destroy ticks", GUEST)?;
    let before = free_frames(&mut session)?;
    for _ in 0..rounds() {
        session.succeed("create ticks.cfg", GUEST)?;
        session.succeed("destroy ticks", GUEST)?;
    }
    let after = free_frames(&mut session)?;
    println!(
        "{} rounds: {before} frames free before, {after} after",
        rounds()
    );
    ensure!(
        before == after,
        "frames lost: {before} free before, {after} after"
    );
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn a_paused_guest_stands_still() -> Result<()> {
    let mut session = shell_with("life-pause", &["ticks", "ticks.cfg"])?;
    session.succeed("create ticks.cfg", GUEST)?;
    session.succeed("pause ticks", SHORT)?;
    let list = session.succeed("list", SHORT)?;
    let line = list.lines().find(|line| line.starts_with("ticks"));
    ensure!(
        line.is_some_and(|line| line.contains("p---")),
        "not paused:\n{list}"
    );
    session.succeed("unpause ticks", SHORT)?;
    session.send_line("console ticks")?;
    session.expect("^PASS ticks$", GUEST)?;
    session.expect_prompt(SHORT)?;
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn many_domains_at_once() -> Result<()> {
    let machine = Machine {
        memory_mib: 4096,
        ..Machine::default()
    };
    let media = media_with(&["idle", "idle.cfg"])?;
    let mut session = boot_to_prompt("life-many", &media, &machine)?;
    // The first round leaves one block of the hypervisor's heap in use, 64 frames. It contains a bucket of domain 0's
    // event channels (two for each guest at a time). The bucket is read without a lock, so it stays until its domain
    // ends, and the second round reuses it.
    let before = a_hundred_lives(&mut session)?;
    let after = a_hundred_lives(&mut session)?;
    ensure!(
        before == after,
        "frames lost: {before} free before, {after} after"
    );
    power_off(session)
}

/// Creates a hundred domains at the same time and destroys them; returns the number of free frames afterwards.
fn a_hundred_lives(session: &mut Session) -> Result<u64> {
    for number in 0..100 {
        session.succeed(&format!("create idle.cfg name=\"idle{number}\""), GUEST)?;
    }
    let list = session.succeed("list", SHORT)?;
    let count = list.lines().filter(|line| line.starts_with("idle")).count();
    ensure!(count == 100, "{count} domains:\n{list}");
    session.audit()?;
    for number in 0..100 {
        session.succeed(&format!("destroy idle{number}"), GUEST)?;
    }
    free_frames(session)
}
