//! Debian's Linux kernel, unmodified, as Dom0 with a busybox root.

use anyhow::{Result, ensure};
use xenlike_tests::machine::{Chipset, Firmware, Machine};
use xenlike_tests::media::{Media, Module};
use xenlike_tests::scenario::{LINUX, SHORT, find_file};
use xenlike_tests::session::Session;

const PROMPT: &str = "^# ";

/// The machine, up to the shell of its Dom0.
fn boot(name: &str, machine: &Machine, linux: &str) -> Result<Session> {
    let line = format!("console=hvc0 {linux}");
    let media = Media::xenlike()
        .module(Module::with_arguments(find_file("vmlinuz")?, line))
        .module(Module::with_arguments(find_file("initrd.img")?, ""));
    let mut session = Session::boot(name, &media, machine)?;
    session.expect(r"^init: Linux 6\.12.*, xen$", LINUX)?;
    session.expect(PROMPT, LINUX)?;
    Ok(session)
}

/// Runs a command in the shell; gives what it printed.
fn run(session: &mut Session, line: &str) -> Result<String> {
    session.send_line(line)?;
    session.expect(r"\n", SHORT)?;
    session.read_until(PROMPT, LINUX)
}

/// Nothing in the kernel's log speaks of trouble.
fn is_calm(session: &Session) -> Result<()> {
    let transcript = session.transcript();
    let trouble = [
        "Call Trace",
        "BUG:",
        "WARNING:",
        "soft lockup",
        "nobody cared",
    ];
    let found = |line: &&str| trouble.iter().any(|word| line.contains(word));
    let line = transcript.lines().find(found);
    ensure!(line.is_none(), "Dom0 says: {}", line.unwrap_or_default());
    Ok(())
}

fn power_off(mut session: Session) -> Result<()> {
    session.send_line("poweroff -f")?;
    session.expect_end(LINUX)?;
    is_calm(&session)
}

/// To the shell with all CPUs and the keyboard's interrupts, and off by ACPI.
fn works(name: &str, machine: &Machine) -> Result<()> {
    let mut session = boot(name, machine, "")?;
    let cpus = run(&mut session, "grep -c ^processor /proc/cpuinfo")?;
    ensure!(cpus.trim() == machine.cpus.to_string(), "{cpus} CPUs");
    let interrupts = run(&mut session, "cat /proc/interrupts")?;
    let keyboard = interrupts.lines().find(|line| line.contains("i8042"));
    let counts = keyboard.unwrap_or_default().split_ascii_whitespace();
    let count: u64 = counts.skip(1).map_while(|n| n.parse::<u64>().ok()).sum();
    ensure!(count > 0, "the keyboard never interrupted:\n{interrupts}");
    let devices = run(&mut session, "ls /sys/bus/pci/devices")?;
    ensure!(
        devices.contains("0000:00:1f.") || devices.contains("0000:00:01.1"),
        "PCI: {devices}"
    );
    power_off(session)
}

macro_rules! matrix {
    ($($name:ident: $chipset:ident, $firmware:ident, $cpus:literal, $mib:literal;)*) => {$(
        #[test]
        #[ignore = "boots QEMU"]
        fn $name() -> Result<()> {
            let machine = Machine {
                chipset: Chipset::$chipset,
                firmware: Firmware::$firmware,
                cpus: $cpus,
                memory_mib: $mib,
                ..Machine::default()
            };
            works(concat!("dom0-", stringify!($name)), &machine)
        }
    )*};
}

matrix! {
    q35_bios_1_cpu: Q35, Bios, 1, 1024;
    q35_bios_2_cpus: Q35, Bios, 2, 2048;
    pc_bios_4_cpus: Pc, Bios, 4, 2048;
}
