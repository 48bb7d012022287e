//! Debian's unmodified Linux kernel as a PV guest, with a busybox root.

use anyhow::{Result, ensure};
use xenlike_tests::machine::Machine;
use xenlike_tests::scenario::{LINUX, SHORT, boot_to_prompt, free_frames, media_with, power_off};
use xenlike_tests::session::Session;

const GUEST_PROMPT: &str = "^# ";

/// Boots a machine, the shell, and the guest up to its shell.
fn linux(name: &str, config: &str, cpus: u32) -> Result<Session> {
    let machine = Machine {
        cpus,
        ..Machine::default()
    };
    linux_on(name, config, &machine, "")
}

fn linux_on(name: &str, config: &str, machine: &Machine, options: &str) -> Result<Session> {
    let media = media_with(&["vmlinuz", "initrd.img", config])?.and(options);
    let mut session = boot_to_prompt(name, &media, machine)?;
    session.send_line(&format!("create {config} -c"))?;
    session.expect(r"^init: Linux 6\.12.*, xen$", LINUX)?;
    session.expect(GUEST_PROMPT, LINUX)?;
    Ok(session)
}

/// Runs a command in the guest's shell.
fn guest(session: &mut Session, line: &str) -> Result<String> {
    session.send_line(line)?;
    session.expect(r"\n", SHORT)?;
    session.read_until(GUEST_PROMPT, LINUX)
}

fn works(name: &str, config: &str, cpus: u32, vcpus: u64) -> Result<()> {
    let session = linux(name, config, cpus)?;
    lives(session, vcpus)
}

/// Runs commands in a guest's shell, then ends the guest.
fn lives(mut session: Session, vcpus: u64) -> Result<()> {
    let count = guest(&mut session, "grep -c ^processor /proc/cpuinfo")?;
    ensure!(
        count.trim() == vcpus.to_string(),
        "{count} vCPUs, not {vcpus}"
    );
    let product = guest(&mut session, "echo $((6 * 7))")?;
    ensure!(product.trim() == "42", "the shell says {product}");
    let busy = "dd if=/dev/zero bs=64k count=256 2>/dev/null | md5sum";
    let sum = guest(&mut session, busy)?;
    ensure!(
        sum.contains("2c7ab85a893283e98c931e9511add182"),
        "16 MiB of zeros: {sum}"
    );
    let idle = guest(&mut session, "sleep 3; echo awake")?;
    ensure!(idle.contains("awake"), "after sleep: {idle}");
    session.send_line("poweroff -f")?;
    session.expect_prompt(LINUX)?;
    let list = session.succeed("list", SHORT)?;
    ensure!(!list.contains("debian"), "still there:\n{list}");
    power_off(session)
}

/// An Intel CPU with L1 terminal fault: Linux inverts the addresses in entries that are not present (PROT_NONE,
/// swap), so the hypervisor's check doesn't affect it.
#[test]
#[ignore = "boots QEMU"]
fn on_a_cpu_open_to_l1tf() -> Result<()> {
    let machine = Machine {
        cpu: "Skylake-Client-v1,vendor=GenuineIntel".to_owned(),
        ..Machine::default()
    };
    let session = linux_on("linux-l1tf", "debian.cfg", &machine, "")?;
    lives(session, 1)
}

#[test]
#[ignore = "boots QEMU"]
fn one_vcpu_to_shell_and_power_off() -> Result<()> {
    works("linux-1", "debian.cfg", 2, 1)
}

#[test]
#[ignore = "boots QEMU"]
fn four_vcpus_to_shell_and_power_off() -> Result<()> {
    works("linux-4", "debian-smp.cfg", 4, 4)
}

/// Four vCPUs on one CPU, which works only if they are scheduled in turn.
#[test]
#[ignore = "boots QEMU"]
fn four_vcpus_on_one_cpu() -> Result<()> {
    works("linux-4-on-1", "debian-smp.cfg", 1, 4)
}

#[test]
#[ignore = "boots QEMU"]
fn reboots_from_inside() -> Result<()> {
    let mut session = linux("linux-reboot", "debian.cfg", 2)?;
    session.send_line("reboot -f")?;
    session.expect(r"^init: Linux 6\.12.*, xen$", LINUX)?;
    session.expect(GUEST_PROMPT, LINUX)?;
    session.send_line("poweroff -f")?;
    session.expect_prompt(LINUX)?;
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn console_is_left_and_entered_again() -> Result<()> {
    let mut session = linux("linux-console", "debian.cfg", 2)?;
    session.send("\x1d")?;
    session.expect_prompt(SHORT)?;
    let before = free_frames(&mut session)?;
    session.send_line("console debian")?;
    session.send_line("")?;
    session.expect(GUEST_PROMPT, SHORT)?;
    ensure!(guest(&mut session, "echo again")?.contains("again"));
    session.send("\x1d")?;
    session.expect_prompt(SHORT)?;
    session.succeed("destroy debian", LINUX)?;
    let after = free_frames(&mut session)?;
    ensure!(
        after >= before + (128 << 20) / 4096,
        "{before} free before, {after} after"
    );
    power_off(session)
}
