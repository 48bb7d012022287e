//! Race guests: vCPUs work on one object at the same time and check whether they managed to do something forbidden.
//! See `guests/samples/src/bin/race/main.rs` for the scenarios.
//!
//! `XENLIKE_RACE_SECONDS=3600` sets each test's duration, `XENLIKE_RACE_SEED=N` repeats a run,
//! `XENLIKE_RACE_CPU=EPYC` selects another CPU model, `XENLIKE_RACE_ONLY=NAME` one scenario,
//! `XENLIKE_RACE_CPUS=N` and `XENLIKE_RACE_VCPUS=N` the numbers of CPUs and vCPUs, `XENLIKE_RACE_KERNEL=FILE`
//! another build of the hypervisor.

use anyhow::{Result, ensure};
use std::time::{Duration, SystemTime};
use xenlike_tests::machine::Machine;
use xenlike_tests::scenario::{
    GUEST, SHORT, boot_to_prompt, free_frames, media_with, no_frame_is_lost, power_off,
};
use xenlike_tests::session::Session;

fn asked(name: &str) -> Option<String> {
    std::env::var(format!("XENLIKE_RACE_{name}")).ok()
}

fn number(name: &str) -> Option<u64> {
    asked(name).and_then(|text| text.parse().ok())
}

/// Duration of the races.
fn seconds(usual: u64) -> u64 {
    number("SECONDS").unwrap_or(usual)
}

/// A new seed each time, so that repeated runs differ.
fn seed() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed();
    number("SEED").unwrap_or(now.map_or(1, |time| time.as_secs()))
}

fn machine(cpus: u32) -> Machine {
    let usual = Machine::default();
    Machine {
        cpus,
        cpu: asked("CPU").unwrap_or(usual.cpu.clone()),
        ..usual
    }
}

fn boot(name: &str, cpus: u32) -> Result<Session> {
    let mut media = media_with(&["race", "race-32", "race.cfg", "hello", "hello.cfg"])?;
    if let Some(kernel) = asked("KERNEL") {
        media = media.with_kernel(kernel);
    }
    let mut session = boot_to_prompt(name, &media, &machine(cpus))?;
    // The first guest only leaves memory of the hypervisor's heap in use.
    hello(&mut session)?;
    Ok(session)
}

fn hello(session: &mut Session) -> Result<()> {
    session.send_line("create hello.cfg -c")?;
    session.expect("^PASS hello$", GUEST)?;
    session.expect_prompt(GUEST)
}

/// Creates a race guest, with its console attached if `console` is `-c`.
fn create(session: &mut Session, settings: &str, extra: &str, console: &str) -> Result<()> {
    let line = format!("create race.cfg {settings} \"extra={extra}\" {console}");
    if console.is_empty() {
        return session.succeed(line.trim(), GUEST).map(drop);
    }
    session.send_line(&line)
}

/// Waits for a race guest's verdict on its console.
fn passes(session: &mut Session, seconds: u64) -> Result<()> {
    let limit = GUEST + Duration::from_secs(2 * seconds);
    let printed = session.read_until("^xenlike> ", limit)?;
    println!("{}", printed.trim());
    ensure!(
        printed.contains("PASS race") && !printed.contains("FAIL"),
        "the race guest printed:\n{printed}"
    );
    Ok(())
}

/// Runs a guest that races against itself.
fn race(name: &str, cpus: u32, vcpus: u32, extra: &str, usual_seconds: u64) -> Result<()> {
    race_of("race", name, cpus, vcpus, extra, usual_seconds)
}

/// Like [`race`], with that build of the guest.
fn race_of(
    kernel: &str,
    name: &str,
    cpus: u32,
    vcpus: u32,
    extra: &str,
    usual_seconds: u64,
) -> Result<()> {
    let cpus = number("CPUS").map_or(cpus, |cpus| cpus as u32);
    let vcpus = number("VCPUS").map_or(vcpus, |vcpus| vcpus as u32);
    let mut session = boot(name, cpus)?;
    let before = free_frames(&mut session)?;
    let seconds = seconds(usual_seconds);
    let only = asked("ONLY").map_or(String::new(), |name| format!("only={name}"));
    let extra = format!("seed={} seconds={seconds} {extra}{only}", seed());
    create(
        &mut session,
        &format!("kernel={kernel} vcpus={vcpus}"),
        extra.trim(),
        "-c",
    )?;
    passes(&mut session, seconds)?;
    ends_well(session, before)
}

/// Checks that the hypervisor works and that all of its memory is free again.
fn ends_well(mut session: Session, before: u64) -> Result<()> {
    hello(&mut session)?;
    no_frame_is_lost(&mut session, before)?;
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn race_of_one_domain() -> Result<()> {
    race("race-one", 4, 4, "", 25)
}

#[test]
#[ignore = "boots QEMU"]
fn race_on_two_cpus() -> Result<()> {
    race("race-two-cpus", 2, 4, "", 10)
}

#[test]
#[ignore = "boots QEMU"]
fn narrow_race_of_one_domain() -> Result<()> {
    race_of("race-32", "race-narrow", 4, 4, "", 25)
}

#[test]
#[ignore = "boots QEMU"]
fn race_of_event_arrays() -> Result<()> {
    race("race-fifo", 2, 4, "only=fifo rounds=100", 3)
}

#[test]
#[ignore = "boots QEMU"]
fn race_of_version_2_grants() -> Result<()> {
    race("race-grants-2", 4, 4, "grants=2 only=grant-many-uses", 8)
}

/// One domain grants and revokes; `others`, which are created in order, use the grant or pass it on.
fn race_of_domains(name: &str, granter: &str, others: &[(&str, &str)]) -> Result<()> {
    let mut session = boot(name, 4)?;
    let before = free_frames(&mut session)?;
    let (seconds, seed) = (seconds(12), seed());
    let extra = format!("role=granter seed={seed} {granter}");
    create(&mut session, "name=granter vcpus=1", extra.trim(), "")?;
    for (role, words) in others {
        let extra = format!("role={role} seed={seed} seconds={seconds} {words}");
        let (vcpus, console) = match *role {
            "mapper" => (3, "-c"),
            _ => (1, ""),
        };
        let settings = format!("name={role} vcpus={vcpus}");
        create(&mut session, &settings, extra.trim(), console)?;
    }
    passes(&mut session, seconds)?;
    let watched = others.iter().map(|(role, _)| *role);
    for role in watched.filter(|role| *role != "mapper").chain(["granter"]) {
        session.send_line(&format!("console {role}"))?;
        passes(&mut session, 0)?;
    }
    ends_well(session, before)
}

#[test]
#[ignore = "boots QEMU"]
fn race_of_two_domains() -> Result<()> {
    race_of_domains("race-pair", "", &[("mapper", "")])
}

#[test]
#[ignore = "boots QEMU"]
fn race_of_two_domains_by_version_2_grants() -> Result<()> {
    race_of_domains("race-pair-2", "grants=2", &[("mapper", "")])
}

/// The grant is passed on by a third domain's transitive grant, which is withdrawn and given again meanwhile.
#[test]
#[ignore = "boots QEMU"]
fn race_of_transitive_grants() -> Result<()> {
    let others = [("passer", "three=1 grants=2"), ("mapper", "three=1")];
    race_of_domains("race-transitive", "three=1", &others)
}

/// Guests are paused, unpaused and destroyed at random moments of their races.
#[test]
#[ignore = "boots QEMU"]
fn race_with_pause_and_destroy() -> Result<()> {
    let mut session = boot("race-destroy", 4)?;
    let before = free_frames(&mut session)?;
    let end = SystemTime::now() + Duration::from_secs(seconds(10));
    let mut round = seed();
    while SystemTime::now() < end {
        round += 1;
        let grants = "role=granter";
        create(&mut session, "name=granter vcpus=1", grants, "")?;
        let maps = format!("role=mapper seed={round} seconds=1000");
        create(&mut session, "name=mapper vcpus=3", &maps, "")?;
        let alone = format!("seed={round} seconds=1000");
        create(&mut session, "name=alone vcpus=4", &alone, "")?;
        for name in ["mapper", "granter", "alone"] {
            for verb in ["pause", "unpause"] {
                session.succeed(&format!("{verb} {name}"), SHORT)?;
            }
        }
        // The order of creation affects what is granted.
        let order = match round % 2 {
            0 => ["granter", "mapper", "alone"],
            _ => ["alone", "mapper", "granter"],
        };
        for name in order {
            session.succeed(&format!("destroy {name}"), GUEST)?;
        }
    }
    ends_well(session, before)
}

/// A guest leaves the longest chain of half-validated tables behind and is destroyed.
fn chain_is_left_behind(level: u32) -> Result<()> {
    let mut session = boot(&format!("race-chain-{level}"), 4)?;
    let before = free_frames(&mut session)?;
    let extra = format!("leave=chain level={level} seed={}", seed());
    create(&mut session, "vcpus=2", &extra, "")?;
    session.succeed("wait race \"left behind\"", GUEST)?;
    session.succeed("destroy race", GUEST)?;
    ends_well(session, before)
}

#[test]
#[ignore = "boots QEMU"]
fn race_chain_of_l2_tables_is_destroyed() -> Result<()> {
    chain_is_left_behind(2)
}

#[test]
#[ignore = "boots QEMU"]
fn race_chain_of_l3_tables_is_destroyed() -> Result<()> {
    chain_is_left_behind(3)
}

#[test]
#[ignore = "boots QEMU"]
fn race_chain_of_l4_tables_is_destroyed() -> Result<()> {
    chain_is_left_behind(4)
}
