//! Booting from a USB stick, and serial ports on PCI cards.

use anyhow::{Context, Result, ensure};
use std::fs;
use xenlike_tests::machine::{Firmware, Machine};
use xenlike_tests::monitor::Monitor;
use xenlike_tests::paths::build;
use xenlike_tests::scenario::{BOOT, SHORT, artefact_with};
use xenlike_tests::screen::Kind;
use xenlike_tests::session::Session;

fn boots_from_a_stick(name: &str, firmware: Firmware) -> Result<()> {
    let machine = Machine {
        memory_mib: 512,
        firmware,
        usb_stick: true,
        ..Machine::default()
    };
    let mut session = Session::boot(name, &artefact_with(&[])?, &machine)?;
    session.expect_prompt(BOOT)
}

#[test]
#[ignore = "boots QEMU"]
fn usb_stick_by_bios() -> Result<()> {
    boots_from_a_stick("stick-bios", Firmware::Bios)
}

#[test]
#[ignore = "boots QEMU"]
fn usb_stick_by_uefi() -> Result<()> {
    boots_from_a_stick("stick-uefi", Firmware::Uefi)
}

/// `com1=...,pci`: the log and the shell are on the card's port, and not on the PC's own.
#[test]
#[ignore = "boots QEMU"]
fn serial_port_on_a_pci_card() -> Result<()> {
    let monitor = Monitor::new()?;
    fs::create_dir_all(build("tmp"))?;
    let sent = build("tmp").join(format!("pci-serial-{}", std::process::id()));
    let machine = Machine {
        memory_mib: 512,
        ..Machine::default()
    };
    let machine = monitor
        .on(machine)
        .with("-chardev")
        .with(&format!("file,id=card,path={}", sent.display()))
        .with("-device")
        .with("pci-serial,chardev=card");
    let words = "console=com1,vga,dbgp com1=115200,8n1,pci";
    let media = artefact_with(&[])?.command_line(words);
    let session = Session::boot("pci-serial", &media, &machine)?;
    monitor.expect(Kind::Pixels, "\nxenlike>", BOOT)?;
    monitor.expect(Kind::Pixels, "debug ports of USB controllers", SHORT)?;
    let said = fs::read_to_string(&sent).context("what the card sent")?;
    fs::remove_file(&sent)?;
    for text in ["(xenlike) memory: ", "\nxenlike>"] {
        ensure!(said.contains(text), "no '{text}' in:\n{said}");
    }
    let own = session.transcript();
    ensure!(!own.contains("(xenlike) "), "on the PC's own port:\n{own}");
    Ok(())
}
