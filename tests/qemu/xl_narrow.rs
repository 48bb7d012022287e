//! Debian's `xl` with 32-bit PV guests, in Linux as Dom0.

use super::dom0::power_off;
use super::xl::{boot_with, row, shows, succeed};
use anyhow::{Context, Result, ensure};
use std::fs;
use xenlike_tests::machine::Machine;
use xenlike_tests::paths::Scratch;
use xenlike_tests::scenario::find_file;
use xenlike_tests::session::Session;

const FREE: &str = "xl info | grep free_memory";

/// Waits until the console of `guest` has shown these words.
fn says(session: &mut Session, guest: &str, words: &str) -> Result<()> {
    let log = format!("cat /var/log/xen/console/guest-{guest}.log");
    shows(session, &log, words)
}

/// The sample `suspend`, whose kernel is `kernel`, is saved and restored twice, and resumed in place once. In between it
/// checks itself. `xl` also pauses it and dumps its memory. Its end is by `xl shutdown`.
fn is_saved_and_restored(session: &mut Session, kernel: &str, vcpus: u32) -> Result<()> {
    let guest = format!("{kernel}-{vcpus}");
    create(session, kernel, &guest, vcpus)?;
    let first = row(session, &guest)?;
    for round in 1..=2 {
        let line = format!("xl save {guest} saved && xl restore saved && rm saved");
        let printed = succeed(session, &line)?;
        let words = format!("round {round}: domain ");
        says(session, &guest, &words).map_err(|error| error.context(printed))?;
    }
    let restored = row(session, &guest)?;
    ensure!(
        first.get(1) != restored.get(1) && first.get(2..4) == restored.get(2..4),
        "{first:?} {restored:?}"
    );
    succeed(session, &format!("xl save -c {guest} saved && rm saved"))?;
    says(session, &guest, "Some(InPlace)")?;
    is_paused_and_dumped(session, &guest)?;
    succeed(session, &format!("xl shutdown -w {guest}"))?;
    says(session, &guest, "PASS suspend")
}

/// Creates a domain of the sample `suspend`, and waits until it has checked itself.
fn create(session: &mut Session, kernel: &str, guest: &str, vcpus: u32) -> Result<()> {
    let name = format!(r#"'name="{guest}"' 'kernel="{kernel}"' memory=16 vcpus={vcpus}"#);
    succeed(session, &format!("xl create -q hello-32.cfg {name}"))?;
    says(session, guest, "round 0: ")?;
    // `int 0x80` and `syscall`, which is there for 32-bit code, too, as the CPU is AMD's.
    says(session, guest, "2 system calls")
}

/// A paused domain is listed as such, and its memory is dumped.
fn is_paused_and_dumped(session: &mut Session, guest: &str) -> Result<()> {
    succeed(session, &format!("xl pause {guest}"))?;
    let paused = row(session, guest)?;
    let state = paused.get(4).map_or("", String::as_str);
    ensure!(state.contains('p'), "{paused:?}");
    succeed(session, &format!("xl dump-core {guest} core"))?;
    // All of its 16 MiB, with words of its program.
    let checks = "[ $(wc -c < core) -gt 16777216 ] && grep -q 'the lists of frames disagree' core && rm core";
    succeed(session, checks)?;
    succeed(session, &format!("xl unpause {guest}")).map(drop)
}

/// A domain that `xenlike` has created is saved, restored and shut down by `xl`.
fn xenlikes_domain_is_saved(session: &mut Session) -> Result<()> {
    let line = "xenlike create -q hello-32.cfg name=ours kernel=suspend-32 memory=16 vcpus=2";
    succeed(session, line)?;
    says(session, "ours", "round 0: ")?;
    succeed(
        session,
        "xl save ours saved && xl restore saved && rm saved",
    )?;
    says(session, "ours", "round 1: ")?;
    succeed(session, "xl shutdown -w ours")?;
    says(session, "ours", "PASS suspend")
}

/// Boots Dom0 with the sample.
fn boot(name: &str, machine: &Machine) -> Result<Session> {
    let scratch = Scratch::new(name)?;
    let mut files = Vec::new();
    for name in ["suspend", "suspend-32"] {
        files.push((name, fs::read(find_file(name)?)?));
    }
    boot_with(name, &scratch, machine, &files)
}

/// The hypervisor's free memory, as `xl info` shows it.
fn free_memory(session: &mut Session) -> Result<String> {
    let printed = succeed(session, FREE)?;
    let line = printed.lines().find(|line| line.contains("free_memory"));
    Ok(line.context("no free memory")?.trim().to_owned())
}

/// Waits until all memory is free again, and checks that no domain is left over, and what the hypervisor's audit says.
fn nothing_is_left(session: &mut Session, free: &str) -> Result<()> {
    // A domain that is shut down is taken apart a moment later.
    shows(session, FREE, free)?;
    let list = succeed(session, "xl list")?;
    let left = ["hello", "suspend", "ended", "ours"].map(|name| list.contains(name));
    ensure!(!left.contains(&true), "{list}");
    succeed(session, "xl debug-keys a; sleep 2")?;
    let log = succeed(session, "xl dmesg | tail -n 5")?;
    ensure!(log.contains("agree in"), "the audit:\n{log}");
    Ok(())
}

/// Domains are created, saved, restored, resumed in place, paused, dumped, shut down and destroyed.
#[test]
#[ignore = "boots QEMU"]
fn narrow_domains_are_saved_and_restored() -> Result<()> {
    let mut session = boot("xl-narrow", &Machine::default())?;
    let free = free_memory(&mut session)?;
    let hello = succeed(&mut session, "xl create -q -c hello-32.cfg")?;
    ensure!(hello.contains("PASS hello"), "{hello}");
    // The same sample with 64 bits shows what is a matter of the width.
    is_saved_and_restored(&mut session, "suspend", 2)?;
    is_saved_and_restored(&mut session, "suspend-32", 1)?;
    is_saved_and_restored(&mut session, "suspend-32", 2)?;
    create(&mut session, "suspend-32", "ended", 2)?;
    succeed(&mut session, "xl destroy ended")?;
    xenlikes_domain_is_saved(&mut session)?;
    nothing_is_left(&mut session, &free)?;
    power_off(session)
}

/// Page tables, the root among them, are in frames that take more than 32 bits to address.
#[test]
#[ignore = "boots QEMU"]
fn narrow_domains_above_4_gib() -> Result<()> {
    let machine = Machine {
        memory_mib: 6144,
        ..Machine::default()
    };
    let mut session = boot("xl-narrow-high", &machine)?;
    is_saved_and_restored(&mut session, "suspend-32", 2)?;
    let log = "grep 'Restored' /var/log/xen/console/guest-suspend-32-2.log";
    let lines = succeed(&mut session, log)?;
    let roots: Vec<&str> = lines
        .lines()
        .filter_map(|line| line.split("root 0x").nth(1))
        .collect();
    ensure!(roots.len() == 2, "{lines}");
    for root in roots {
        let digits = root.split(',').next().unwrap_or_default();
        ensure!(u64::from_str_radix(digits, 16)? >= 1 << 20, "{lines}");
    }
    power_off(session)
}
