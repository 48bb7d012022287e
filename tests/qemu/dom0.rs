//! Debian's unmodified Linux kernel as Dom0, with a busybox root.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use xenlike_tests::machine::{Chipset, Firmware, Machine};
use xenlike_tests::media::{Media, Module};
use xenlike_tests::monitor::Monitor;
use xenlike_tests::paths::{Scratch, build};
use xenlike_tests::scenario::{BOOT, LINUX, SHORT, find_file};
use xenlike_tests::session::Session;

/// The prompt of Dom0's shell.
pub const PROMPT: &str = "^# ";

/// Boots a machine up to the shell of its Dom0.
pub fn boot(name: &str, machine: &Machine, linux: &str) -> Result<Session> {
    boot_with(name, machine, linux, "")
}

/// Like [`boot`], with options for the hypervisor.
pub fn boot_with(name: &str, machine: &Machine, linux: &str, options: &str) -> Result<Session> {
    boot_image(name, machine, linux, options, build("dom0.img"))
}

/// Like [`boot_with`], with another initrd. Neither a Xenstore nor Debian's other daemons run; the tests
/// in `xl.rs` have them.
pub fn boot_image(
    name: &str,
    machine: &Machine,
    linux: &str,
    options: &str,
    initrd: PathBuf,
) -> Result<Session> {
    let line = format!("console=hvc0 xenlike.toolstack=off {linux}");
    let media = Media::test_build()
        .and(options)
        .module(Module::with_arguments(find_file("vmlinuz")?, line))
        .module(Module::with_arguments(initrd, ""));
    let mut session = Session::boot(name, &media, machine)?;
    session.expect(r"^init: Linux 6\.12.*, xen$", LINUX)?;
    session.expect(PROMPT, LINUX)?;
    Ok(session)
}

/// Runs a command in the shell; returns its output.
pub fn run(session: &mut Session, line: &str) -> Result<String> {
    session.send_line(line)?;
    session.expect(r"\n", SHORT)?;
    session.read_until(PROMPT, LINUX)
}

/// Boots a machine with a monitor up to its Dom0's shell.
pub fn boot_watched(name: &str, machine: Machine) -> Result<(Session, Monitor)> {
    let monitor = Monitor::new()?;
    let session = boot(name, &monitor.on(machine), "")?;
    Ok((session, monitor))
}

/// Presses one of the hypervisor's debug keys; returns the output.
pub fn asks_core(session: &mut Session, key: &str) -> Result<String> {
    session.send("\x01\x01\x01")?;
    session.expect("serial input goes to the hypervisor", SHORT)?;
    // Keys are handled in order, but after the keyboard has been switched back, so the next key marks the end.
    session.send(&format!("{key}?"))?;
    let said = session.read_until("key '.' has no meaning.*", SHORT)?;
    session.send("\x01\x01\x01")?;
    session.expect("serial input goes to domain 0", SHORT)?;
    session.send_line("")?;
    session.expect(PROMPT, SHORT)?;
    Ok(said)
}

/// Checks that the kernel's log contains no warnings.
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
    let mut lines = transcript.lines().skip_while(|line| !found(line));
    let said: Vec<&str> = lines.by_ref().take(40).collect();
    ensure!(said.is_empty(), "Dom0 says:\n{}", said.join("\n"));
    Ok(())
}

/// Powers off by ACPI, after an audit and a check of the log.
pub fn power_off(mut session: Session) -> Result<()> {
    session.audit()?;
    session.send_line("poweroff -f")?;
    session.expect_end(LINUX)?;
    is_calm(&session)
}

/// Boots to the shell with all CPUs and keyboard interrupts, and powers off by ACPI.
fn works(name: &str, machine: &Machine) -> Result<()> {
    let mut session = boot(name, machine, "")?;
    let cpus = run(&mut session, "grep -c ^processor /proc/cpuinfo")?;
    ensure!(cpus.trim() == machine.cpus.to_string(), "{cpus} CPUs");
    let interrupts = run(&mut session, "cat /proc/interrupts")?;
    let keyboard = interrupts.lines().find(|line| line.contains("i8042"));
    let counts = keyboard.unwrap_or_default().split_ascii_whitespace();
    let count: u64 = counts.skip(1).map_while(|n| n.parse::<u64>().ok()).sum();
    ensure!(count > 0, "the keyboard never interrupted:\n{interrupts}");
    let free = run(
        &mut session,
        "awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo",
    )?;
    let free: u32 = free.trim().parse()?;
    // Memory that the hypervisor keeps, that Linux doesn't count or uses for its page structures, in the test build the
    // audit's table of all frames, and the machine-to-physical table of 32-bit guests.
    let memory = machine.memory_mib;
    let lost = 400 + memory / 32 + memory / 64 + memory / 1024;
    ensure!(
        free + lost > machine.memory_mib,
        "Dom0 has {free} MiB of {}",
        machine.memory_mib
    );
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
    q35_bios_4_cpus_6_gib: Q35, Bios, 4, 6144;
    q35_uefi_2_cpus: Q35, Uefi, 2, 2048;
    pc_uefi_1_cpu: Pc, Uefi, 1, 2048;
}

/// Linux takes CPUs offline and online again, and restarts the machine by `reboot`.
#[test]
#[ignore = "boots QEMU"]
fn unplugs_a_cpu_and_reboots() -> Result<()> {
    let mut session = boot("dom0-unplug", &Machine::default(), "")?;
    let cpu = "/sys/devices/system/cpu/cpu1/online";
    for (value, online) in [("0", "0"), ("1", "0-1"), ("0", "0"), ("1", "0-1")] {
        let line = format!("echo {value} > {cpu}; cat /sys/devices/system/cpu/online");
        let printed = run(&mut session, &line)?;
        let last = printed.lines().rfind(|line| !line.starts_with('['));
        ensure!(last == Some(online), "after {value}: {printed}");
    }
    is_calm(&session)?;
    session.send_line("reboot -f")?;
    // QEMU ends when the machine resets.
    session.expect_end(LINUX).map(drop)
}

#[test]
#[ignore = "boots QEMU"]
fn one_vcpu_on_two_cpus_and_less_memory() -> Result<()> {
    let machine = Machine::default();
    let mut session = boot_with("dom0-small", &machine, "", "dom0_max_vcpus=1 dom0_mem=512M")?;
    let online = run(&mut session, "cat /sys/devices/system/cpu/online")?;
    ensure!(online.trim() == "0", "online: {online}");
    let list = run(&mut session, "xenlike list")?;
    ensure!(list.contains("Domain-0   0  512      1"), "{list}");
    power_off(session)
}

/// Makes Dom0 panic: the hypervisor reports it, and restarts the machine or not as configured.
fn panics(name: &str, options: &str, sentence: &str) -> Result<Session> {
    let mut session = boot_with(name, &Machine::default(), "", options)?;
    session.send_line("echo c > /proc/sysrq-trigger")?;
    session.expect("Kernel panic - not syncing: sysrq triggered crash", LINUX)?;
    session.expect(sentence, LINUX)?;
    Ok(session)
}

#[test]
#[ignore = "boots QEMU"]
fn its_panic_restarts_the_machine() -> Result<()> {
    let mut session = panics(
        "dom0-panic",
        "",
        "domain 0 has crashed: restarting in 5 seconds",
    )?;
    session.expect_end(LINUX).map(drop)
}

#[test]
#[ignore = "boots QEMU"]
fn its_panic_stays_on_the_screen_with_noreboot() -> Result<()> {
    panics(
        "dom0-noreboot",
        "noreboot",
        "domain 0 has crashed: 'noreboot' says to stop here",
    )
    .map(drop)
}

/// A file that isn't a kernel for Dom0 is reported in a sentence, and the machine stops or restarts as after a crash.
fn refuses(name: &str, kernel: &[u8], options: &str, sentence: &str) -> Result<()> {
    let scratch = Scratch::new(name)?;
    let path = scratch.path().join("kernel");
    std::fs::write(&path, kernel)?;
    let media = Media::xenlike()
        .and("noreboot")
        .and(options)
        .module(Module::with_arguments(path, "console=hvc0"));
    let mut session = Session::boot(name, &media, &Machine::default())?;
    session.expect(
        &format!("error: Domain-0 can't be started: {sentence}"),
        BOOT,
    )?;
    session
        .expect(
            "the boot domain has crashed: 'noreboot' says to stop here",
            SHORT,
        )
        .map(drop)
}

#[test]
#[ignore = "boots QEMU"]
fn bad_kernels_are_named() -> Result<()> {
    let linux = std::fs::read(find_file("vmlinuz")?)?;
    refuses(
        "dom0-text",
        b"this is no kernel\n",
        "",
        ".*neither a Linux bzImage nor an ELF file",
    )?;
    let mut unknown = linux.clone();
    let payload = unknown
        .windows(4)
        .position(|at| at == b"\x28\xb5\x2f\xfd")
        .context("a zstd payload")?;
    unknown[payload] = 0;
    refuses(
        "dom0-compression",
        &unknown,
        "",
        ".*packed in an unknown way",
    )?;
    refuses(
        "dom0-memory",
        &linux,
        "dom0_mem=16M",
        "memory of 16 MiB is too small",
    )
}

/// The toolstack in Dom0: its reports, and a Linux guest that it creates, with its console.
#[test]
#[ignore = "boots QEMU"]
fn makes_linux_guests() -> Result<()> {
    // Leaves memory for a guest that has ended and is kept, and for its successor.
    let options = "dom0_mem=512M";
    let mut session = boot_with("dom0-toolstack", &Machine::default(), "", options)?;
    let list = run(&mut session, "xenlike list")?;
    ensure!(
        list.lines().count() == 2 && list.contains("Domain-0"),
        "more than Dom0:\n{list}"
    );
    let info = run(&mut session, "xenlike info")?;
    ensure!(
        info.contains("xen_extra") && info.contains("-xenlike"),
        "{info}"
    );
    let report = run(&mut session, "xenlike bugreport")?;
    for part in [
        "APIC     ",
        "sum right",
        "usable (1)",
        " class 06",
        "xenlike 0.",
    ] {
        ensure!(report.contains(part), "no {part:?} in:\n{report}");
    }
    ensure!(!report.contains("can't be read"), "{report}");
    let refused = run(&mut session, "xenlike destroy 77; xenlike create vmlinuz")?;
    ensure!(refused.matches("error: ").count() == 2, "{refused}");
    let hello = run(&mut session, "xenlike create hello.cfg -c")?;
    ensure!(
        hello.contains("PASS hello") && hello.contains("[hello has powered off]"),
        "{hello}"
    );

    session.send_line("xenlike create debian.cfg 'on_reboot=\"rename-restart\"' -c")?;
    session.expect(r"^init: Linux 6\.12.*, xen$", LINUX)?;
    session.expect(PROMPT, LINUX)?;
    session.send("\x1d")?;
    session.expect(PROMPT, SHORT)?;
    let list = run(&mut session, "hostname; xenlike list")?;
    ensure!(list.contains("dom0") && list.contains("debian"), "{list}");
    // A console that is attached late shows earlier output, and follows when the guest restarts.
    session.send_line("xenlike console debian")?;
    session.expect(r"^init: Linux 6\.12.*, xen$", SHORT)?;
    session.send_line("")?;
    session.expect(PROMPT, SHORT)?;
    session.send_line("reboot -f")?;
    session.expect(r"^\[debian reboots\]$", LINUX)?;
    session.expect(r"^init: Linux 6\.12.*, xen$", LINUX)?;
    session.expect(PROMPT, LINUX)?;
    session.send_line("poweroff -f")?;
    session.expect(r"^\[debian has powered off\]$", LINUX)?;
    session.expect(PROMPT, SHORT)?;
    let list = run(&mut session, "xenlike list")?;
    ensure!(list.contains("debian-"), "not under another name:\n{list}");
    let destroyed = run(
        &mut session,
        "xenlike destroy $(xenlike list | grep -o 'debian[-0-9]*'); xenlike list",
    )?;
    ensure!(!destroyed.contains("debian"), "still there:\n{destroyed}");
    power_off(session)
}

/// `Ctrl-A` three times switches the keyboard to the hypervisor and back; its debug keys report about the machine.
#[test]
#[ignore = "boots QEMU"]
fn debug_keys() -> Result<()> {
    let mut session = boot("dom0-keys", &Machine::default(), "")?;
    session.send("\x01\x01\x01")?;
    session.expect("serial input goes to the hypervisor", SHORT)?;
    let answers = [
        ("h", "restarts the machine"),
        ("q", r"d0: Alive, Control rights, \d+ of \d+ pages"),
        ("r", r"d0v1: home .*, ran \d+ ms"),
        ("m", r"2\d\d\d MiB, \d+ MiB free"),
        (
            "i",
            r"vector 0x[3-9a-d][0-9a-f] to CPU[01], [1-9]\d* times: line 1, EdgeHigh",
        ),
        ("t", r"TSC \d+ kHz, .*; system time \d+ ns"),
        ("n", "vCPUs that an NMI waits for"),
        ("c", "idle states"),
        ("s", r"CPU1: [1-9]\d+ of 28416 bytes"),
        ("e", r"port \d+: interrupt 1 for v[01]"),
        ("g", r"d0: version 1, \d+ of \d+ frames"),
        ("0", r"rip [0-9a-f]{4}:[0-9a-f]{16}"),
        (
            "d",
            r"(rip [0-9a-f]{4}:[0-9a-f]{16}|CPU[01] has nothing to run)",
        ),
        ("?", "has no meaning"),
    ];
    for (key, answer) in answers {
        session.send(key)?;
        session.expect(answer, SHORT)?;
    }
    session.send("\x01\x01\x01")?;
    session.expect("serial input goes to domain 0", SHORT)?;
    session.send_line("")?;
    session.expect(PROMPT, SHORT)?;
    ensure!(run(&mut session, "echo $((6 * 7))")?.contains("42"));
    session.send("\x01\x01\x01")?;
    session.expect("serial input goes to the hypervisor", SHORT)?;
    session.send("R")?;
    session.expect_end(SHORT).map(drop)
}
