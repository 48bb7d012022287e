//! Dom0 and its machine: its memory, a large initrd, keys, idle CPUs, the clock.

use super::dom0::{asks_core, boot, boot_image, boot_watched, boot_with, power_off, run};
use anyhow::{Context, Result, ensure};
use regex::Regex;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use xenlike_tests::cpio;
use xenlike_tests::machine::{Chipset, Machine};
use xenlike_tests::paths::{Scratch, build};
use xenlike_tests::session::Session;

/// Domain 0's memory in MiB, as the toolstack reports it.
fn memory(session: &mut Session) -> Result<u32> {
    let list = run(session, "xenlike list")?;
    let row = list.lines().find(|line| line.starts_with("Domain-0"));
    let mib = row.and_then(|row| row.split_ascii_whitespace().nth(2));
    Ok(mib.with_context(|| list.clone())?.parse()?)
}

#[test]
#[ignore = "boots QEMU"]
fn memory_as_the_options_say() -> Result<()> {
    let forms = [
        ("dom0_mem=max:600M", 600..=600),
        ("dom0_mem=25%,min:700M", 700..=700),
        // A part of the 2 GiB that firmware and hypervisor leave.
        ("dom0_mem=30%", 500..=614),
    ];
    for (number, (option, expected)) in forms.into_iter().enumerate() {
        let name = format!("dom0-memory-{number}");
        let mut session = boot_with(&name, &Machine::default(), "", option)?;
        let mib = memory(&mut session)?;
        ensure!(expected.contains(&mib), "{option}: {mib} MiB");
        power_off(session)?;
    }
    Ok(())
}

#[test]
#[ignore = "boots QEMU"]
fn an_initrd_of_110_mib() -> Result<()> {
    let scratch = Scratch::new("dom0-great")?;
    let content: Vec<u8> = (0..110_u32 << 18)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b1).to_le_bytes())
        .collect();
    let plain = scratch.path().join("great");
    fs::write(&plain, &content)?;
    let sum = Command::new("md5sum").arg(&plain).output()?.stdout;
    let sum = String::from_utf8(sum)?;
    let sum = sum.split_ascii_whitespace().next().context("a sum")?;
    let mut image = fs::read(build("dom0.img"))?;
    image.resize(image.len().next_multiple_of(4), 0);
    let mut great = cpio::Archive::default();
    great.add("great", &cpio::Entry::File(&content));
    image.extend(great.finish());
    let initrd = scratch.path().join("initrd");
    fs::write(&initrd, image)?;
    let mut session = boot_image("dom0-great", &Machine::default(), "", "", initrd)?;
    let inside = run(&mut session, "md5sum /great")?;
    ensure!(inside.contains(sum), "{sum} expected:\n{inside}");
    power_off(session)
}

/// Reads `device` with all of Dom0's vCPUs on `cpu`, then checks that the disk's interrupts go to that CPU.
fn interrupts_go_to(session: &mut Session, cpu: u32, device: &str) -> Result<()> {
    let reads = format!("for i in 1 2 3 4; do dd if={device} of=/dev/null bs=64k count=16; done");
    let drop = "echo 3 > /proc/sys/vm/drop_caches";
    let pinned = run(
        session,
        &format!("xenlike vcpu-pin 0 all {cpu} && echo pinned; {reads}; {drop}; {reads}"),
    )?;
    ensure!(pinned.contains("pinned"), "{pinned}");
    let interrupts = asks_core(session, "i")?;
    let there = format!(r"to CPU{cpu}, [1-9]\d* times: MSI 0 of 00:1f\.2");
    ensure!(
        Regex::new(&there)?.is_match(&interrupts),
        "no {there}:\n{interrupts}"
    );
    Ok(())
}

/// When a vCPU moves to another CPU, its interrupts follow.
#[test]
#[ignore = "boots QEMU"]
fn interrupts_follow_their_vcpu() -> Result<()> {
    let scratch = Scratch::new("dom0-follow")?;
    let path = scratch.path().join("disk");
    fs::File::create(&path)?.set_len(64 << 20)?;
    let drive = format!("if=none,id=a,format=raw,file={}", path.display());
    let machine = Machine {
        chipset: Chipset::Q35,
        ..Machine::default()
    };
    let machine = machine
        .with("-drive")
        .with(&drive)
        .with("-device")
        .with("ide-hd,drive=a,bus=ide.0");
    let mut session = boot("dom0-follow", &machine, "")?;
    for cpu in [0, 1, 0] {
        interrupts_go_to(&mut session, cpu, "/dev/sda")?;
    }
    power_off(session)
}

/// Keys pressed on a keyboard become events of the input device whose name contains `keyboard`.
fn types(name: &str, machine: Machine, keyboard: &str) -> Result<()> {
    let (mut session, monitor) = boot_watched(name, machine)?;
    let find = format!(
        "grep -A 4 -i '{keyboard}' /proc/bus/input/devices | grep -o 'event[0-9]*' | head -n 1"
    );
    let found = run(&mut session, &find)?;
    let device = found.lines().rfind(|line| line.starts_with("event"));
    let devices = run(&mut session, "cat /proc/bus/input/devices; ls /dev/input")?;
    let device = device.with_context(|| format!("no {keyboard}:\n{devices}"))?;
    run(
        &mut session,
        &format!("(cat /dev/input/{device} > /tmp/keys) & sleep 1"),
    )?;
    for key in ["x", "e", "n"] {
        monitor.command(&format!("sendkey {key}"))?;
        sleep(Duration::from_secs(1));
    }
    // An event is 24 bytes long; type, code and value are the last 8. EV_KEY of x, e, n, pressed.
    let seen = run(
        &mut session,
        "sleep 1; hexdump -v -e '24/1 \"%02x\" \"\\n\"' /tmp/keys",
    )?;
    let pressed: Vec<&str> = seen
        .lines()
        .filter_map(|line| line.trim().get(32..48))
        .filter(|event| event.starts_with("0100") && event.ends_with("01000000"))
        .filter_map(|event| event.get(4..8))
        .collect();
    ensure!(
        pressed == ["2d00", "1200", "3100"],
        "{pressed:?} in\n{seen}"
    );
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn ps2_keys() -> Result<()> {
    types("dom0-ps2", Machine::default(), "AT Translated")
}

#[test]
#[ignore = "boots QEMU"]
fn usb_keys() -> Result<()> {
    let machine = Machine::default()
        .with("-device")
        .with("qemu-xhci")
        .with("-device")
        .with("usb-kbd");
    types("dom0-usb", machine, "QEMU USB Keyboard")
}

/// A BIOS leaves the chipset in legacy mode, in which ACPI events go to the firmware. Linux sees that in PM1 control
/// (bit 0, SCI_EN) and takes ACPI over. On QEMU's Q35 the register is at port 0x604.
#[test]
#[ignore = "boots QEMU"]
fn linux_takes_acpi_over() -> Result<()> {
    let (session, monitor) = boot_watched("dom0-acpi", Machine::default())?;
    let said = monitor.command("i /2xh 0x604")?;
    let word = said.split("= 0x").nth(1).map(str::trim);
    let digits = word.and_then(|word| word.get(..4));
    let control = u16::from_str_radix(digits.with_context(|| said.clone())?, 16)?;
    ensure!(control & 1 == 1, "PM1 control is {control:#x}");
    power_off(session)
}

/// On an idle machine, all CPUs are in HLT nearly always.
#[test]
#[ignore = "boots QEMU"]
fn idle_cpus_halt() -> Result<()> {
    const LOOKS: usize = 40;
    let machine = Machine::default();
    let cpus = machine.cpus as usize;
    let (mut session, monitor) = boot_watched("dom0-idle", machine)?;
    let halted = |seconds| -> Result<usize> {
        sleep(Duration::from_secs(seconds));
        let mut count = 0;
        for _ in 0..LOOKS {
            sleep(Duration::from_millis(100));
            count += monitor.halted()?;
        }
        Ok(count)
    };
    let idle = halted(10)?;
    // The measurement distinguishes busy from idle: with a loop on each CPU, none is in HLT.
    session.send_line("for n in 1 2; do (while :; do :; done) & done")?;
    let busy = halted(3)?;
    let all = LOOKS * cpus;
    ensure!(idle > all * 8 / 10, "idle: in HLT {idle} of {all} times");
    ensure!(busy < all / 10, "busy: in HLT {busy} of {all} times");
    run(&mut session, "kill %1 %2")?;
    power_off(session)
}

/// How far Dom0's clock is ahead of the RTC, in seconds, measured when the RTC's second changes. Delays only increase
/// the result, so the least of several is used.
fn ahead(session: &mut Session) -> Result<f64> {
    let line = "T=/sys/class/rtc/rtc0/time; for n in 1 2 3 4 5 6 7 8 9 10; do read a < $T; b=$a; \
        while [ $a = $b ]; do read b < $T; done; echo =$b $EPOCHREALTIME; done";
    let said = run(session, line)?;
    let offset = |line: &str| -> Option<f64> {
        let (rtc, clock) = line.strip_prefix('=')?.split_once(' ')?;
        let mut parts = rtc.split(':').map(str::parse::<f64>);
        let rtc = parts.try_fold(0.0, |sum, part| Some(sum * 60.0 + part.ok()?))?;
        Some(clock.trim().parse::<f64>().ok()? % 86400.0 - rtc)
    };
    let least = said.lines().filter_map(offset).reduce(f64::min);
    least.context(said)
}

/// On demand, with XENLIKE_DRIFT=SECONDS: Dom0's clock stays within 50 ms of the RTC over that time.
#[test]
#[ignore = "boots QEMU"]
fn its_clock_keeps_up_with_the_rtc() -> Result<()> {
    let Ok(seconds) = std::env::var("XENLIKE_DRIFT") else {
        return Ok(());
    };
    let mut session = boot("dom0-drift", &Machine::default(), "")?;
    let before = ahead(&mut session)?;
    sleep(Duration::from_secs(seconds.parse()?));
    let after = ahead(&mut session)?;
    let drift_ms = (after - before) * 1000.0;
    println!("{before:.4} s, then {after:.4} s: {drift_ms:.1} ms in {seconds} s");
    ensure!(drift_ms.abs() < 50.0, "{drift_ms:.1} ms in {seconds} s");
    power_off(session)
}
