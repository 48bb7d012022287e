//! Weights, caps and affinity determine the CPU time of guests that never yield.
//!
//! `XENLIKE_SCHED_SECONDS=60` measures for a minute, in which weights and caps must hold within 2 %.

use anyhow::{Context, Result, ensure};
use xenlike_tests::machine::Machine;
use xenlike_tests::scenario::{GUEST, SHORT, artefact_with, boot_to_prompt, power_off};
use xenlike_tests::session::Session;

/// Duration of the measurement, in the machine's seconds.
fn watched() -> f64 {
    let asked = std::env::var("XENLIKE_SCHED_SECONDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(8.0)
}

/// Whether a share is as wanted: within 2 % if measured for a minute, roughly if for less, on a busy host.
fn is_close(share: f64, wanted: f64) -> bool {
    let tolerance = if watched() < 60.0 { 0.4 } else { 0.02 };
    (share / wanted - 1.0).abs() < tolerance
}

fn with_cpus(name: &str, cpus: u32) -> Result<Session> {
    let machine = Machine {
        cpus,
        ..Machine::default()
    };
    let media = artefact_with(&["hostile.cfg", "hostile-loop", "idle", "idle.cfg"])?;
    boot_to_prompt(name, &media, &machine)
}

/// Creates a guest that always wants its CPU.
fn hog(session: &mut Session, name: &str, settings: &str) -> Result<()> {
    let hog = "hostile.cfg kernel=hostile-loop extra=forever=1 vcpus=1";
    let line = format!("create {hog} name={name} {settings}");
    session.succeed(&line, GUEST).map(drop)
}

/// The CPU seconds of a domain, as `list` shows them.
fn seconds(session: &mut Session, name: &str) -> Result<f64> {
    let list = session.succeed(&format!("list {name}"), SHORT)?;
    let line = list.lines().find(|line| line.starts_with(name));
    let last = line.and_then(|line| line.split_whitespace().last());
    Ok(last
        .with_context(|| format!("no {name} in:\n{list}"))?
        .parse()?)
}

/// The shares of these domains during [`watched`] seconds.
fn shares<const N: usize>(session: &mut Session, names: [&str; N]) -> Result<[f64; N]> {
    let mut got = [0.0; N];
    session.succeed("sleep 1", SHORT)?;
    for (got, name) in got.iter_mut().zip(names) {
        *got = -seconds(session, name)?;
    }
    session.succeed(&format!("sleep {}", watched()), 2 * GUEST)?;
    for (got, name) in got.iter_mut().zip(names) {
        *got += seconds(session, name)?;
    }
    println!("{names:?} got {got:.1?} s of {}", watched());
    Ok(got)
}

#[test]
#[ignore = "boots QEMU"]
fn weights_and_caps_share_a_cpu() -> Result<()> {
    let mut session = with_cpus("sched-weights", 1)?;
    session.succeed("create idle.cfg", GUEST)?;
    hog(&mut session, "light", "cpu_weight=256")?;
    hog(&mut session, "heavy", "cpu_weight=768")?;
    let [light, heavy, idle] = shares(&mut session, ["light", "heavy", "idle"])?;
    let share = heavy / (heavy + light);
    ensure!(is_close(share, 0.75), "three quarters became {share:.3}");
    ensure!(idle < 0.2, "an idle guest took {idle:.1} s");
    session.succeed("destroy light", GUEST)?;
    session.succeed("destroy heavy", GUEST)?;
    hog(&mut session, "capped", "cap=25")?;
    let [capped] = shares(&mut session, ["capped"])?;
    let share = capped / watched();
    ensure!(is_close(share, 0.25), "a cap of 25 % gave {share:.3}");
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn affinity_keeps_two_guests_on_one_cpu() -> Result<()> {
    let mut session = with_cpus("sched-affinity", 2)?;
    hog(&mut session, "one", "cpus=\"1\"")?;
    hog(&mut session, "two", "cpus=\"1\"")?;
    let [one, two] = shares(&mut session, ["one", "two"])?;
    let both = one + two;
    ensure!(both < watched() * 1.2, "two on one CPU took {both:.1} s");
    ensure!(
        (0.5..2.0).contains(&(one / two)),
        "{one:.1} s and {two:.1} s"
    );
    power_off(session)
}
