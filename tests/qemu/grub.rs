//! GRUB's PV builds, which boot kernels from disks: PV kernels of either width that are linked at 0, with console and
//! store, and in Linux as Dom0 with disks.

use super::xl::{boot_appended, run, succeed};
use anyhow::{Result, ensure};
use std::fs::{self, File};
use xenlike_tests::cpio::{Archive, Entry};
use xenlike_tests::machine::Machine;
use xenlike_tests::paths::Scratch;
use xenlike_tests::scenario::{GUEST, SHORT, find_file, power_off, shell_with};
use xenlike_tests::session::Session;

#[test]
#[ignore = "boots QEMU"]
fn gives_a_command_line_and_halts() -> Result<()> {
    uses_the_command_line("pvgrub")
}

#[test]
#[ignore = "boots QEMU"]
fn narrow_gives_a_command_line_and_halts() -> Result<()> {
    uses_the_command_line("pvgrub-32")
}

fn uses_the_command_line(name: &str) -> Result<()> {
    let config = format!("{name}.cfg");
    let mut session = shell_with(&format!("grub-{name}"), &[name, &config])?;
    session.send_line(&format!("create {config} -c"))?;
    session.expect("grub> ", GUEST)?;
    session.send("ls\r")?;
    let printed = session.read_until(r"\(proc\)", SHORT)?;
    ensure!(printed.contains("(memdisk)"), "no memdisk in:\n{printed}");
    session.expect("grub> ", SHORT)?;
    session.send("halt\r")?;
    session.expect(&format!(r"^\[{name} has powered off\]$"), GUEST)?;
    session.expect_prompt(SHORT)?;
    power_off(session)
}

/// What xl runs when a domain's disk is attached: tells the back end the device's number, in place of Xen's script, which
/// takes programs that this Dom0 lacks.
const ATTACH: &str = r#"#!/bin/sh
[ "$1" = add ] || exit 0
device=$(xenstore-read "$XENBUS_PATH/params")
xenstore-write "$XENBUS_PATH/physical-device" "$(stat -c %t:%T "$device")"
xenstore-write "$XENBUS_PATH/hotplug-status" connected
"#;

/// GRUB's configuration on the disk; `{program}` is the kernel.
const MENU: &str = r#"
set timeout=0
menuentry "sample" {
    multiboot /boot/{program} read from a disk
}
"#;

/// Makes a file system with a kernel and a configuration for GRUB on Dom0's disk `device`.
fn fill_disk(session: &mut Session, device: &str, program: &str) -> Result<()> {
    let script = format!(
        "mke2fs -F /dev/{device} >/dev/null 2>&1 && mkdir -p /mnt && mount -t ext4 /dev/{device} /mnt && \
         mkdir -p /mnt/boot/grub && cp {program} /mnt/boot && cp {program}.menu /mnt/boot/grub/grub.cfg && umount /mnt"
    );
    succeed(session, &script).map(drop)
}

/// GRUB, which `xl` creates with a disk, finds its configuration there, and boots the kernel that this names.
fn boots_from_a_disk(session: &mut Session, grub: &str, device: &str, kernel: &str) -> Result<()> {
    fill_disk(session, device, kernel)?;
    let disk = format!(r#"'disk=["phy:/dev/{device},xvda,w"]'"#);
    succeed(
        session,
        &format!("xl create -q hello.cfg 'name=\"{grub}\"' 'kernel=\"{grub}\"' memory=64 {disk}"),
    )?;
    let log = format!("/var/log/xen/console/guest-{grub}.log");
    let waits =
        format!("for i in $(seq 60); do grep -E '^(PASS|FAIL)' {log} && break; sleep 1; done");
    run(session, &waits)?;
    let printed = run(session, &format!("cat {log}"))?;
    for words in [
        "Reading (xen/xvda)/boot/grub/grub.cfg",
        "command line: read from a disk",
        "PASS hello",
    ] {
        ensure!(printed.contains(words), "no {words:?} in\n{printed}");
    }
    let waits = format!("for i in $(seq 30); do xl list {grub} || break; sleep 1; done");
    run(session, &waits)?;
    let list = succeed(session, "xl list")?;
    ensure!(!list.contains(grub), "still there:\n{list}");
    Ok(())
}

/// GRUB's builds for both widths read kernels from disks of Dom0's.
#[test]
#[ignore = "boots QEMU"]
fn boots_kernels_from_disks() -> Result<()> {
    let name = "grub-disks";
    let scratch = Scratch::new(name)?;
    let mut machine = Machine::default();
    for disk in ["a", "b"] {
        let path = scratch.path().join(disk);
        File::create(&path)?.set_len(16 << 20)?;
        let drive = format!("if=virtio,format=raw,file={}", path.display());
        machine = machine.with("-drive").with(&drive);
    }
    let mut scripts = Archive::default();
    for folder in ["etc", "etc/xen", "etc/xen/scripts"] {
        scripts.add(folder, &Entry::Directory);
    }
    scripts.add("etc/xen/scripts/block", &Entry::Program(ATTACH.as_bytes()));
    let mut files = Vec::new();
    for name in ["pvgrub", "pvgrub-32"] {
        files.push((name, fs::read(find_file(name)?)?));
    }
    for (menu, program) in [("hello.menu", "hello"), ("hello-32.menu", "hello-32")] {
        let menu_entry = MENU.replace("{program}", program);
        files.push((menu, menu_entry.into_bytes()));
    }
    let mut session = boot_appended(name, &scratch, &machine, &files, scripts.finish())?;
    boots_from_a_disk(&mut session, "pvgrub", "vda", "hello")?;
    boots_from_a_disk(&mut session, "pvgrub-32", "vdb", "hello-32")?;
    super::dom0::power_off(session)
}
