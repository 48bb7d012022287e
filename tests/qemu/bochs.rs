//! Tests on a second emulator, Bochs, with a CPU of each vendor. Behaviour that both emulators share is less likely
//! to be an emulator's fault.

use anyhow::{Context, Result, ensure};
use xenlike_tests::bochs::Bochs;
use xenlike_tests::scenario::{BOOT, GUEST, LINUX, SHORT, media_with, power_off};
use xenlike_tests::session::Session;

const INTEL: &str = "corei7_skylake_x";
const AMD: &str = "trinity_apu";

fn boot(name: &str, model: &'static str, cpus: u32, files: &[&str]) -> Result<Session> {
    let machine = Bochs {
        model,
        cpus,
        memory_mib: 1024,
    };
    // Without a screen, since emulating its memory is slow.
    let media = media_with(files)?.and("console=com1");
    let mut session = Session::boot_on_bochs(name, &media, &machine)?;
    session.expect_prompt(BOOT)?;
    Ok(session)
}

/// Guests that test where CPUs differ: faults and IRET, descriptor tables, timers, several vCPUs.
fn guests(name: &str, model: &'static str, cpus: u32, maker: &str) -> Result<()> {
    const GUESTS: [&str; 5] = ["hello", "user", "ldt", "ticks", "smp"];
    let configs = GUESTS.map(|guest| format!("{guest}.cfg"));
    let files: Vec<&str> = GUESTS
        .into_iter()
        .chain(configs.iter().map(String::as_str))
        .collect();
    let mut session = boot(name, model, cpus, &files)?;
    let info = session.succeed("info", SHORT)?;
    ensure!(info.contains(maker), "not {maker}:\n{info}");
    let online = format!("(?m)^nr_cpus +: {cpus}$");
    let has_them = regex::Regex::new(&online)?.is_match(&info);
    ensure!(has_them, "not {cpus} CPUs:\n{info}");
    for guest in GUESTS {
        session.send_line(&format!("create {guest}.cfg -c"))?;
        let verdict = session.expect(&format!("^(PASS|FAIL) {guest}.*$"), GUEST)?;
        ensure!(verdict.starts_with("PASS"), "{verdict}");
        session.expect_prompt(GUEST)?;
    }
    power_off(session)
}

#[test]
#[ignore = "boots Bochs"]
fn intel_1_cpu() -> Result<()> {
    guests("bochs-intel-1", INTEL, 1, "GenuineIntel")
}

#[test]
#[ignore = "boots Bochs"]
fn intel_2_cpus() -> Result<()> {
    guests("bochs-intel-2", INTEL, 2, "GenuineIntel")
}

#[test]
#[ignore = "boots Bochs"]
fn amd_1_cpu() -> Result<()> {
    guests("bochs-amd-1", AMD, 1, "AuthenticAMD")
}

#[test]
#[ignore = "boots Bochs"]
fn amd_2_cpus() -> Result<()> {
    guests("bochs-amd-2", AMD, 2, "AuthenticAMD")
}

/// Boots Debian's kernel as a guest up to its shell, and powers it off.
fn debian(name: &str, model: &'static str) -> Result<()> {
    let mut session = boot(name, model, 1, &["vmlinuz", "initrd.img", "debian.cfg"])?;
    session.send_line("create debian.cfg -c")?;
    session.expect(r"^init: Linux 6\.12.*, xen$", LINUX)?;
    session.expect("^# ", LINUX)?;
    session.send_line("poweroff -f")?;
    session
        .expect(r"^\[debian has powered off\]$", LINUX)
        .context("Linux switches itself off")?;
    session.expect_prompt(GUEST)?;
    power_off(session)
}

#[test]
#[ignore = "boots Bochs"]
fn debian_on_intel() -> Result<()> {
    debian("bochs-debian-intel", INTEL)
}

#[test]
#[ignore = "boots Bochs"]
fn debian_on_amd() -> Result<()> {
    debian("bochs-debian-amd", AMD)
}
