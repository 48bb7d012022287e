//! A guest affects only domains with which it shares something: its TLB flushes interrupt no other domain's CPU, and
//! its lookups of domains don't keep other domains from being created or destroyed.

use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use xenlike_tests::machine::Machine;
use xenlike_tests::scenario::{GUEST, SHORT, boot_to_prompt, media_with, power_off};
use xenlike_tests::session::Session;

const CPUS: usize = 4;

fn with_cpus(name: &str, cpus: u32, files: &[&str]) -> Result<Session> {
    let machine = Machine {
        cpus,
        ..Machine::default()
    };
    boot_to_prompt(name, &media_with(files)?, &machine)
}

/// How often each CPU was asked for a flush. The keyboard must be the hypervisor's.
fn asked(session: &mut Session) -> Result<[u64; CPUS]> {
    session.send("f")?;
    let mut counts = [0; CPUS];
    for (cpu, count) in counts.iter_mut().enumerate() {
        let line = session.expect(&format!(r"CPU{cpu}: asked \d+ times"), SHORT)?;
        let words = line
            .split("asked ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        *count = words.context("a count")?.parse()?;
    }
    Ok(counts)
}

/// A guest on CPUs 1 and 2 unmaps grants and changes frames' types, while its neighbour runs on CPU 3.
#[test]
#[ignore = "boots QEMU"]
fn flushes_interrupt_no_neighbour() -> Result<()> {
    let files = ["hostile.cfg", "hostile-loop", "confined"];
    let mut session = with_cpus("confined-flushes", CPUS as u32, &files)?;
    let neighbour = "kernel=hostile-loop extra=forever=1 vcpus=1 cpus=\"3\" name=neighbour";
    session.succeed(&format!("create hostile.cfg {neighbour}"), GUEST)?;
    let guest = "kernel=confined name=confined extra=rounds=200 vcpus=2 cpus=\"1-2\"";
    session.send_line(&format!("create hostile.cfg {guest} -c"))?;
    session.expect("cycle 0", GUEST)?;
    session.send("\x01\x01\x01")?;
    session.expect("cycle 1", GUEST)?;
    let before = asked(&mut session)?;
    session.expect("cycle 4", GUEST)?;
    let after = asked(&mut session)?;
    session.send("\x01\x01\x01")?;
    session.expect("^PASS confined$", GUEST)?;
    session.expect_prompt(GUEST)?;
    let more: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    println!("flushes asked of CPUs 0 to 3 by 600 unmaps and 600 changes of type: {more:?}");
    ensure!(more[1] + more[2] >= 600, "the guest's own CPUs: {more:?}");
    ensure!(more[3] == 0, "the neighbour's CPU: {more:?}");
    power_off(session)
}

/// Eight vCPUs look up domains continuously while others are created and destroyed.
#[test]
#[ignore = "boots QEMU"]
fn lookups_delay_no_destruction() -> Result<()> {
    const ROUNDS: u32 = 20;
    let files = ["hostile.cfg", "lookup", "idle", "idle.cfg"];
    let mut session = with_cpus("confined-lookups", 9, &files)?;
    let quiet = destroy(&mut session, ROUNDS)?;
    let guest = "kernel=lookup name=lookup vcpus=8 cpus=\"1-8\"";
    session.succeed(&format!("create hostile.cfg {guest}"), GUEST)?;
    let rate = session.succeed("wait lookup \"times a second\"", GUEST)?;
    let busy = destroy(&mut session, ROUNDS)?;
    println!("{}", rate.trim());
    println!("destroyed in {quiet:?} without, {busy:?} with look-ups (mean, longest)");
    ensure!(busy.1 < Duration::from_secs(20), "{busy:?}");
    power_off(session)
}

/// Mean and longest time to destroy a domain.
fn destroy(session: &mut Session, rounds: u32) -> Result<(Duration, Duration)> {
    let (mut all, mut longest) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..rounds {
        session.succeed("create idle.cfg", GUEST)?;
        let began = Instant::now();
        session.succeed("destroy idle", GUEST)?;
        let took = began.elapsed();
        all += took;
        longest = longest.max(took);
    }
    Ok((all / rounds, longest))
}
