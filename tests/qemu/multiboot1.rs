//! Loading by version 1 of multiboot.

use std::path::Path;

use anyhow::{Result, ensure};
use xenlike_tests::machine::Machine;
use xenlike_tests::paths::build;
use xenlike_tests::scenario::{
    BOOT, GUEST, SHORT, boot_to_prompt, find_file, media_with, power_off,
};
use xenlike_tests::session::Session;

/// Through GRUB's older commands `multiboot` and `module`.
#[test]
#[ignore = "boots QEMU"]
fn by_grub() -> Result<()> {
    let media = media_with(&["hello", "hello.cfg"])?.by_version_1();
    let mut session = boot_to_prompt("multiboot1-grub", &media, &Machine::default())?;
    session.send_line("create hello.cfg -c")?;
    session.expect("^PASS hello$", GUEST)?;
    session.expect_prompt(GUEST)?;
    // The ACPI tables are found where a BIOS puts them, as this version doesn't pass their address.
    let log = session.succeed("dmesg", SHORT)?;
    ensure!(log.contains("started by GRUB"), "{log}");
    ensure!(!log.contains("there is no list of CPUs"), "{log}");
    power_off(session)
}

/// Through QEMU's own loader, with modules and their command lines.
#[test]
#[ignore = "boots QEMU"]
fn by_qemu() -> Result<()> {
    let modules = format!(
        "{} file=hello,{} file=hello.cfg",
        find_file("hello")?.display(),
        find_file("hello.cfg")?.display()
    );
    let kernel = build("xenlike32");
    let machine = Machine::default()
        .with("-kernel")
        .with(&kernel.to_string_lossy())
        .with("-initrd")
        .with(&modules)
        .with("-append")
        .with("console=com1,vga com1=115200,8n1");
    let nothing = Path::new("/dev/null");
    let mut session = Session::boot_iso("multiboot1-qemu", nothing, &machine)?;
    session.expect("started by qemu", BOOT)?;
    session.expect_prompt(BOOT)?;
    session.send_line("create hello.cfg -c")?;
    session.expect("^PASS hello$", GUEST)?;
    session.expect_prompt(GUEST)?;
    power_off(session)
}
