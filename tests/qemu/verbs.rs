//! The shell's commands from the toolstack's table, with Linux as the guest.

use anyhow::{Result, ensure};
use xenlike_tests::machine::Machine;
use xenlike_tests::scenario::{LINUX, SHORT, boot_to_prompt, media_with, power_off};
use xenlike_tests::session::Session;

/// Waits until `list` shows these words in the row of `debian`.
fn list_shows(session: &mut Session, words: &str) -> Result<()> {
    for _ in 0..60 {
        let list = session.succeed("list debian", SHORT)?;
        if list.contains(words) {
            return Ok(());
        }
        session.succeed("sleep 1", SHORT)?;
    }
    let list = session.succeed("list debian", SHORT)?;
    anyhow::bail!("no {words:?} in\n{list}")
}

/// Linux returns memory, takes it again, brings a CPU up and down, and handles a SysRq key.
#[test]
#[ignore = "boots QEMU"]
fn linux_does_what_the_shell_asks() -> Result<()> {
    let media = media_with(&["vmlinuz", "initrd.img", "debian.cfg"])?;
    let mut session = boot_to_prompt("verbs", &media, &Machine::default())?;
    let said = session.succeed("xl create -n -f debian.cfg maxvcpus=2", LINUX)?;
    for line in [
        "kernel          : vmlinuz: 12 MiB, 64-bit, linux 2.6",
        "vCPUs           : 1, at most 2",
        "memory          : 128 MiB",
        "at reboot       : it is started again",
    ] {
        ensure!(said.contains(line), "no {line:?} in\n{said}");
    }
    let said = session.command("xl lsit", SHORT)?;
    ensure!(said.contains("did you mean `list`?"), "{said}");
    session.succeed("create debian.cfg vcpus=2", LINUX)?;
    session.succeed("wait debian \"init: Linux 6.12\" --timeout=300", LINUX)?;
    session.succeed("mem-set debian 100", SHORT)?;
    list_shows(&mut session, " 100      2 ")?;
    session.succeed("mem-set debian 128m", SHORT)?;
    list_shows(&mut session, " 128      2 ")?;
    session.succeed("vcpu-set debian 1", SHORT)?;
    list_shows(&mut session, " 128      1 ")?;
    // Linux leaves it to user space to bring up a CPU that was added.
    session.succeed("vcpu-set debian 2", SHORT)?;
    session.send_line("console debian")?;
    session.expect("^# ", LINUX)?;
    session.send_line("echo 1 > /sys/devices/system/cpu/cpu1/online && echo it is up")?;
    session.expect("^it is up", LINUX)?;
    session.send("\x1d")?;
    session.expect_prompt(SHORT)?;
    list_shows(&mut session, " 128      2 ")?;
    session.succeed("sysrq debian h", SHORT)?;
    session.succeed("wait debian \"sysrq: HELP\" --timeout=60", LINUX)?;
    session.succeed("rename debian house", SHORT)?;
    let said = session.succeed("xl dominfo house", SHORT)?;
    for line in [
        "name            : house",
        "vCPUs up        : 2 of 2",
        "command line    : console=hvc0",
    ] {
        ensure!(said.contains(line), "no {line:?} in\n{said}");
    }
    let long = session.succeed("list -l house", SHORT)?;
    ensure!(long.contains("\"name\": \"house\""), "{long}");
    session.succeed("debug-keys q", SHORT)?;
    let log = session.succeed("dmesg", SHORT)?;
    ensure!(log.contains("d0: Alive"), "{log}");
    session.succeed("shutdown -w house", LINUX)?;
    power_off(session)
}
