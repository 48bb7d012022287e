//! The end of the machine: restart, power off, stop, starting on any CPU.

use crate::dom0::{self, boot_with, run};
use anyhow::{Result, ensure};
use std::thread::sleep;
use std::time::{Duration, Instant};
use xenlike_tests::machine::{Chipset, Machine};
use xenlike_tests::monitor::Monitor;
use xenlike_tests::scenario::{BOOT, LINUX, SHORT, artefact_with, power_off};
use xenlike_tests::session::Session;

/// An uncorrected machine check, on a CPU other than the boot CPU.
const MACHINE_CHECK_ON_1: &str = "mce 1 1 0xb200000000000000 0 0 0";

fn panics_on_cpu_1(name: &str, options: &str) -> Result<(Session, Monitor)> {
    let monitor = Monitor::new()?;
    let machine = monitor.on(Machine::default());
    let mut session = Session::boot(name, &artefact_with(&[])?.and(options), &machine)?;
    session.expect_prompt(BOOT)?;
    session.allow_panic();
    monitor.command(MACHINE_CHECK_ON_1)?;
    session.expect("panic on CPU1: machine check", SHORT)?;
    Ok((session, monitor))
}

/// The boot CPU stays stopped: INIT would send it into the firmware, which would boot the medium again.
#[test]
#[ignore = "boots QEMU"]
fn a_panic_on_an_ap_stops_the_boot_cpu() -> Result<()> {
    let (mut session, monitor) = panics_on_cpu_1("power-ap-noreboot", "noreboot")?;
    session.expect("^Stopped", SHORT)?;
    let end = Instant::now() + SHORT;
    while monitor.halted()? != 2 {
        ensure!(Instant::now() < end, "a CPU still runs");
        sleep(Duration::from_millis(200));
    }
    // Long enough for the firmware and GRUB.
    sleep(Duration::from_secs(8));
    let boots = session.transcript().matches("started by").count();
    ensure!(boots == 1 && monitor.halted()? == 2, "{boots} boots");
    Ok(())
}

#[test]
#[ignore = "boots QEMU"]
fn a_panic_on_an_ap_restarts_the_machine() -> Result<()> {
    let (mut session, _monitor) = panics_on_cpu_1("power-ap-restart", "")?;
    session.expect("^The machine restarts", SHORT)?;
    session.expect_end(SHORT).map(drop)
}

/// Restarts by debug key `R`, in the way that the command line names, or else in the next one. Only some chipsets
/// have ACPI's reset register.
fn restarts(chipset: Chipset, way: &str) -> Result<()> {
    let machine = Machine {
        chipset,
        memory_mib: 512,
        ..Machine::default()
    };
    let media = artefact_with(&[])?.and(way);
    let mut session = Session::boot(&format!("power-{way}"), &media, &machine)?;
    session.expect_prompt(BOOT)?;
    session.send("\x01\x01\x01")?;
    session.expect("serial input goes to the hypervisor", SHORT)?;
    session.send("R")?;
    session.expect_end(SHORT).map(drop)
}

#[test]
#[ignore = "boots QEMU"]
fn every_way_to_restart() -> Result<()> {
    restarts(Chipset::Pc, "reboot=acpi")?;
    for way in [
        "reboot=acpi",
        "reboot=kbd",
        "reboot=pci",
        "reboot=P",
        "reboot=triple",
    ] {
        restarts(Chipset::Q35, way)?;
    }
    Ok(())
}

/// A machine without PM1 registers has other registers for power-off and reset, in memory.
#[test]
#[ignore = "boots QEMU"]
fn a_hardware_reduced_machine_ends() -> Result<()> {
    restarts(Chipset::Reduced, "reboot=acpi")?;
    let machine = Machine {
        chipset: Chipset::Reduced,
        memory_mib: 512,
        ..Machine::default()
    };
    let media = artefact_with(&["hello", "hello.cfg"])?;
    let mut session = Session::boot("power-reduced", &media, &machine)?;
    session.expect("without an HPET or ACPI PM timer, time runs wrong", BOOT)?;
    session.expect_prompt(BOOT)?;
    session.succeed("create hello.cfg", SHORT)?;
    power_off(session)
}

/// Boots a Debian Dom0 whose vCPUs are all on the second CPU.
fn dom0_on_cpu_1(name: &str, options: &str) -> Result<Session> {
    let mut session = boot_with(name, &Machine::default(), "", options)?;
    run(&mut session, "xenlike vcpu-pin Domain-0 all 1")?;
    Ok(session)
}

#[test]
#[ignore = "boots QEMU"]
fn dom0_switches_off_on_an_ap() -> Result<()> {
    let mut session = dom0_on_cpu_1("power-dom0-off", "")?;
    session.send_line("poweroff -f")?;
    session.expect("domain 0 switches the machine off", LINUX)?;
    session.expect_end(SHORT).map(drop)
}

#[test]
#[ignore = "boots QEMU"]
fn dom0_reboots_on_an_ap() -> Result<()> {
    let mut session = dom0_on_cpu_1("power-dom0-reboot", "noreboot")?;
    session.send_line("reboot -f")?;
    // As on Xen, `noreboot` is only for crashes.
    session.expect("domain 0 has shut down: restarting", LINUX)?;
    session.expect_end(SHORT).map(drop)
}

/// Sleep states other than off are refused with a message, and Dom0 continues.
#[test]
#[ignore = "boots QEMU"]
fn suspend_to_ram_is_refused() -> Result<()> {
    let machine = Machine::default()
        .with("-global")
        .with("ICH9-LPC.disable_s3=0");
    let mut session = dom0::boot("power-s3", &machine, "no_console_suspend")?;
    session.send_line("echo mem > /sys/power/state")?;
    session.expect("domain 0 asked for sleep state S3", LINUX)?;
    session.send_line("")?;
    session.expect(dom0::PROMPT, LINUX)?;
    dom0::power_off(session)
}
