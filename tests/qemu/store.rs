//! The Xenstore of the embedded control domain: unmodified guests are asked to end, and do.

use anyhow::{Result, ensure};
use xenlike_tests::machine::Machine;
use xenlike_tests::scenario::{
    LINUX, SHORT, boot_to_prompt, free_frames, media_with, no_frame_is_lost, power_off,
};
use xenlike_tests::session::Session;

/// Boots the shell, with Linux's files.
fn shell(name: &str, config: &str) -> Result<Session> {
    let machine = Machine {
        cpus: 2,
        ..Machine::default()
    };
    let media = media_with(&["vmlinuz", "initrd.img", config])?;
    boot_to_prompt(name, &media, &machine)
}

/// Starts Linux and waits for its shell.
fn start(session: &mut Session, config: &str, name: &str) -> Result<()> {
    session.succeed(&format!("create {config}"), LINUX)?;
    is_up(session, name)
}

fn is_up(session: &mut Session, name: &str) -> Result<()> {
    let wait = format!("wait {name} \"init: Linux 6.12\" --timeout=300");
    session.succeed(&wait, LINUX).map(drop)
}

/// Linux shuts down on request, repeatedly, and no frame is lost.
#[test]
#[ignore = "boots QEMU"]
fn linux_shuts_down_when_it_is_told() -> Result<()> {
    let mut session = shell("store-shutdown", "debian.cfg")?;
    let before = free_frames(&mut session)?;
    for _ in 0..2 {
        start(&mut session, "debian.cfg", "debian")?;
        let told = session.succeed("shutdown -w debian", LINUX)?;
        ensure!(told.contains("[debian has powered off]"), "{told}");
        let list = session.succeed("list", SHORT)?;
        ensure!(!list.contains("debian"), "still there:\n{list}");
        no_frame_is_lost(&mut session, before)?;
    }
    power_off(session)
}

/// With four vCPUs, requested while its console is attached: Linux reboots, and can be asked again.
#[test]
#[ignore = "boots QEMU"]
fn linux_reboots_when_it_is_told() -> Result<()> {
    let mut session = shell("store-reboot", "debian-smp.cfg")?;
    let before = free_frames(&mut session)?;
    start(&mut session, "debian-smp.cfg", "debian-smp")?;
    let told = session.succeed("reboot -w debian-smp", LINUX)?;
    ensure!(told.contains("[debian-smp reboots]"), "{told}");
    // The console still shows the first run; output after its last line is from the second.
    session.send_line("console debian-smp")?;
    session.expect("reboot: Restarting system", LINUX)?;
    session.expect(r"^init: Linux 6\.12.*4 CPU\(s\).*, xen$", LINUX)?;
    session.expect("^# ", LINUX)?;
    session.send("\x1d")?;
    session.expect_prompt(SHORT)?;
    session.send_line("shutdown debian-smp")?;
    session.expect_prompt(SHORT)?;
    session.succeed("wait debian-smp", LINUX)?;
    no_frame_is_lost(&mut session, before)?;
    power_off(session)
}

/// Linux doesn't use vCPUs that the store marks as offline.
#[test]
#[ignore = "boots QEMU"]
fn linux_runs_on_the_vcpus_that_are_online() -> Result<()> {
    let mut session = shell("store-vcpus", "debian.cfg")?;
    session.succeed("create debian.cfg vcpus=1 maxvcpus=2", LINUX)?;
    let wait = "wait debian \"x86_64, 1 CPU(s)\" --timeout=300";
    session.succeed(wait, LINUX)?;
    session.succeed("shutdown -w debian", LINUX)?;
    power_off(session)
}
