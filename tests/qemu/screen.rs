//! The screen: on a PC without a serial port, it shows the hypervisor's messages and the reason of a stop.

use crate::dom0;
use anyhow::{Result, bail, ensure};
use std::thread::sleep;
use std::time::Duration;
use xenlike_tests::machine::{Firmware, Machine};
use xenlike_tests::media::Media;
use xenlike_tests::monitor::Monitor;
use xenlike_tests::scenario::{BOOT, SHORT, artefact_with};
use xenlike_tests::screen::Kind;
use xenlike_tests::session::Session;

/// An uncorrected machine check, on CPU 0.
const MACHINE_CHECK: &str = "mce 0 1 0xb200000000000000 0 0 0";

fn small() -> Machine {
    Machine {
        memory_mib: 512,
        ..Machine::default()
    }
}

/// Boots without a serial console, up to the prompt on the screen.
fn prompt_appears(name: &str, media: Media, kind: Kind, machine: Machine) -> Result<()> {
    let monitor = Monitor::new()?;
    let media = media.command_line("console=vga");
    let _session = Session::boot(name, &media, &monitor.on(machine))?;
    let shown = monitor.expect(kind, "\nxenlike>", BOOT)?;
    for line in [
        "(xenlike) xenlike",
        "(xenlike) memory: ",
        "(xenlike) 2 CPUs",
    ] {
        ensure!(shown.contains(line), "no '{line}' in:\n{shown}");
    }
    Ok(())
}

#[test]
#[ignore = "boots QEMU"]
fn bios_frame_buffer() -> Result<()> {
    prompt_appears("screen-bios", artefact_with(&[])?, Kind::Pixels, small())
}

#[test]
#[ignore = "boots QEMU"]
fn uefi_frame_buffer() -> Result<()> {
    let machine = Machine {
        firmware: Firmware::Uefi,
        ..small()
    };
    prompt_appears("screen-uefi", artefact_with(&[])?, Kind::Pixels, machine)
}

#[test]
#[ignore = "boots QEMU"]
fn vga_text() -> Result<()> {
    let media = artefact_with(&[])?.on_text_screen();
    prompt_appears("screen-text", media, Kind::Text, small())
}

/// Injects a machine check while all CPUs are in the idle loop, since in a guest there is no stack of
/// the core's to show.
fn check_in_idle(monitor: &Monitor, cpus: usize) -> Result<()> {
    for _ in 0..300 {
        monitor.command("stop")?;
        let idle = monitor.halted()? == cpus;
        if idle {
            monitor.command(MACHINE_CHECK)?;
        }
        monitor.command("cont")?;
        if idle {
            return Ok(());
        }
        sleep(Duration::from_millis(100));
    }
    bail!("the CPUs are never idle together")
}

/// A machine check stops the machine: the screen shows the registers, where the core was, and what happens next.
#[test]
#[ignore = "boots QEMU"]
fn a_panic_stays_on_the_screen() -> Result<()> {
    let monitor = Monitor::new()?;
    let media = artefact_with(&[])?.and("noreboot");
    let machine = small();
    let cpus = machine.cpus as usize;
    let mut session = Session::boot("screen-panic", &media, &monitor.on(machine))?;
    session.expect_prompt(BOOT)?;
    session.allow_panic();
    check_in_idle(&monitor, cpus)?;
    let stopped = "Stopped ('noreboot'). Reset the machine by hand.";
    let shown = monitor.expect(Kind::Pixels, stopped, SHORT)?;
    let said = session.read_until("^Stopped", SHORT)?;
    for text in [
        "machine check bank 1: status 0xb200000000000000",
        "panic on CPU0: machine check",
        "\nrip ",
        "xenlike_core::entry::dump::machine_check+",
    ] {
        ensure!(shown.contains(text), "no '{text}' on:\n{shown}");
        ensure!(said.contains(text), "no '{text}' in:\n{said}");
    }
    // The stack of the exception is followed by the one that it interrupted.
    let interrupted = said.split_once(" trap_ist+").map_or("", |(_, rest)| rest);
    let places = interrupted.lines().filter(|line| line.contains('+'));
    ensure!(places.count() >= 2, "no interrupted stack in:\n{said}");
    Ok(())
}

/// A Linux Dom0 owns the screen; when the core stops, it writes the reason there.
#[test]
#[ignore = "boots QEMU"]
fn dom0_has_the_screen_until_a_panic() -> Result<()> {
    let monitor = Monitor::new()?;
    let machine = monitor.on(Machine::default());
    let mut session = dom0::boot_with("screen-dom0", &machine, "", "noreboot")?;
    ensure!(
        session
            .transcript()
            .contains("(xenlike) the screen is domain 0's now")
    );
    let shown = monitor.screen(Kind::Pixels)?;
    ensure!(!shown.contains("init: Linux"), "hvc0 is on:\n{shown}");
    session.allow_panic();
    monitor.command(MACHINE_CHECK)?;
    let stopped = "Stopped ('noreboot'). Reset the machine by hand.";
    let shown = monitor.expect(Kind::Pixels, stopped, SHORT)?;
    ensure!(shown.contains("panic on CPU0: machine check"), "{shown}");
    Ok(())
}

/// `vga=keep`: Dom0's console output appears on the screen.
#[test]
#[ignore = "boots QEMU"]
fn the_screen_can_be_kept() -> Result<()> {
    let monitor = Monitor::new()?;
    let machine = monitor.on(Machine::default());
    // A Linux that also has the frame buffer would draw its own console over the hypervisor's.
    let linux = "initcall_blacklist=sysfb_init";
    let _session = dom0::boot_with("screen-kept", &machine, linux, "vga=keep")?;
    monitor.expect(Kind::Pixels, "init: Linux", SHORT).map(drop)
}

/// Without `noreboot` the machine restarts.
#[test]
#[ignore = "boots QEMU"]
fn a_panic_restarts_the_machine() -> Result<()> {
    let monitor = Monitor::new()?;
    let mut session = Session::boot("screen-restart", &artefact_with(&[])?, &monitor.on(small()))?;
    session.expect_prompt(BOOT)?;
    session.allow_panic();
    monitor.command(MACHINE_CHECK)?;
    session.expect("^The machine restarts", SHORT)?;
    session.expect_end(SHORT).map(drop)
}

/// On a machine that can't run the hypervisor, the screen says so if there is no serial port.
fn refuses(name: &str, kind: Kind, machine: Machine, sentence: &str) -> Result<()> {
    let monitor = Monitor::new()?;
    let mut media = Media::xenlike().command_line("console=vga");
    if kind == Kind::Text {
        media = media.on_text_screen();
    }
    let machine = Machine { cpus: 1, ..machine };
    let _session = Session::boot(name, &media, &monitor.on(machine))?;
    let shown = monitor.expect(kind, "xenlike can't run here: ", BOOT)?;
    ensure!(shown.contains(sentence), "no '{sentence}' in:\n{shown}");
    Ok(())
}

#[test]
#[ignore = "boots QEMU"]
fn no_long_mode() -> Result<()> {
    let machine = Machine {
        cpu: "max,-lm".to_owned(),
        ..small()
    };
    let sentence = "this CPU has no 64-bit mode.";
    refuses("screen-no-lm", Kind::Text, machine, sentence)
}

#[test]
#[ignore = "boots QEMU"]
fn no_nx() -> Result<()> {
    let machine = Machine {
        cpu: "max,-nx".to_owned(),
        ..small()
    };
    let sentence = "this CPU has no NX (execute disable)";
    refuses("screen-no-nx", Kind::Pixels, machine, sentence)
}

#[test]
#[ignore = "boots QEMU"]
fn too_little_memory() -> Result<()> {
    let machine = Machine {
        memory_mib: 32,
        ..small()
    };
    let sentence = "this machine has too little memory: at least 48 MiB";
    refuses("screen-no-memory", Kind::Text, machine, sentence)
}
