//! Dom0's devices: disks and network cards, with message-signalled and line interrupts, and hot-plugged ones.

use super::dom0::{asks_core, boot, boot_watched, power_off, run};
use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::{self, sleep};
use std::time::Duration;
use xenlike_tests::machine::{Chipset, Machine};
use xenlike_tests::monitor::Monitor;
use xenlike_tests::paths::Scratch;
use xenlike_tests::session::Session;

/// Makes a file system on `device`, writes to it, unmounts it, and reads the data again from the disk itself.
fn keeps_files(session: &mut Session, device: &str) -> Result<()> {
    let write = format!(
        "mke2fs -F /dev/{device} >/dev/null 2>&1 && mount -t ext4 /dev/{device} /mnt && \
         dd if=/dev/urandom of=/mnt/file bs=1M count=16 2>/dev/null && md5sum /mnt/file && \
         sync && umount /mnt"
    );
    let written = run(session, &write)?;
    let sum = written
        .split_ascii_whitespace()
        .find(|word| word.len() == 32);
    let sum = sum.with_context(|| format!("{device}: no sum in {written}"))?;
    let read = format!(
        "echo 3 > /proc/sys/vm/drop_caches; mount -t ext4 /dev/{device} /mnt && md5sum /mnt/file; umount /mnt"
    );
    let again = run(session, &read)?;
    ensure!(
        again.contains(sum),
        "{device}: {sum} was written, and read:\n{again}"
    );
    Ok(())
}

/// Disks with MSI (AHCI) and MSI-X (virtio, NVMe with a queue for each CPU), and on the old IDE controller's line.
fn disks(name: &str, chipset: Chipset, extra: &str, devices: &[&str]) -> Result<()> {
    let scratch = Scratch::new(name)?;
    let mut machine = Machine {
        chipset,
        ..Machine::default()
    };
    for word in extra.split_ascii_whitespace() {
        machine = machine.with(word);
    }
    for disk in ["a", "b", "c"] {
        let path = scratch.path().join(disk);
        File::create(&path)?.set_len(64 << 20)?;
        let drive = format!("if=none,id={disk},format=raw,file={}", path.display());
        machine = machine.with("-drive").with(&drive);
    }
    let mut session = boot(name, &machine, "")?;
    run(
        &mut session,
        "mkdir -p /mnt; cat /proc/partitions; cat /proc/interrupts",
    )?;
    for device in devices {
        keeps_files(&mut session, device)?;
    }
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn disks_with_messages() -> Result<()> {
    let devices = "-device virtio-blk-pci,drive=a -device ide-hd,drive=b,bus=ide.0 -device nvme,drive=c,serial=1";
    disks(
        "dom0-disks",
        Chipset::Q35,
        devices,
        &["vda", "sda", "nvme0n1"],
    )
}

#[test]
#[ignore = "boots QEMU"]
fn disks_with_lines() -> Result<()> {
    let devices = "-device virtio-blk-pci,drive=a,vectors=0 -device ide-hd,drive=b,bus=ide.0 -device ahci,id=s -device ide-hd,drive=c,bus=s.0";
    disks(
        "dom0-disks-pc",
        Chipset::Pc,
        devices,
        &["vda", "sda", "sdb"],
    )
}

/// Fetches 8 MiB from a server on the host over QEMU's user network, and sends them back.
fn transfers(name: &str, card: &str) -> Result<()> {
    let content: Vec<u8> = (0..8_u32 << 20)
        .map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8)
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let expected = content.clone();
    let server = thread::spawn(move || -> Result<bool> {
        let (mut first, _) = listener.accept()?;
        first.write_all(&content)?;
        drop(first);
        let (mut second, _) = listener.accept()?;
        let mut back = Vec::new();
        second.read_to_end(&mut back)?;
        Ok(back == expected)
    });
    let machine = Machine::default()
        .with("-netdev")
        .with("user,id=net")
        .with("-device")
        .with(&format!("{card},netdev=net"));
    let mut session = boot(name, &machine, "")?;
    run(&mut session, "ifconfig eth0 10.0.2.15 up; sleep 3")?;
    run(
        &mut session,
        &format!("nc 10.0.2.2 {port} > /tmp/got </dev/null; ls -l /tmp/got"),
    )?;
    let sent = run(
        &mut session,
        &format!("nc -w 5 10.0.2.2 {port} < /tmp/got; echo sent"),
    )?;
    ensure!(sent.contains("sent"), "{sent}");
    let same = server
        .join()
        .map_err(|_| anyhow::anyhow!("the server failed"))??;
    ensure!(same, "what came back is not what was sent");
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn e1000_transfers() -> Result<()> {
    transfers("dom0-e1000", "e1000")
}

#[test]
#[ignore = "boots QEMU"]
fn virtio_net_transfers() -> Result<()> {
    transfers("dom0-virtio-net", "virtio-net-pci")
}

/// Plugs disk `id` into the port once it is empty, since a device stays until Dom0 has switched its power off.
fn plug(monitor: &Monitor, id: &str) -> Result<()> {
    let line = format!("device_add virtio-blk-pci,id=d-{id},drive={id},bus=root1");
    let mut said = String::new();
    for _ in 0..30 {
        said = monitor.command(&line)?;
        if !said.contains("Error") {
            return Ok(());
        }
        sleep(Duration::from_secs(1));
    }
    bail!("{said}")
}

/// Plugs a disk into a port of the running machine, which signals this by a message. The disk is found, works with
/// MSI-X, and can be removed and plugged in again.
#[test]
#[ignore = "boots QEMU"]
fn a_disk_is_plugged_in() -> Result<()> {
    let scratch = Scratch::new("dom0-plug")?;
    let path = scratch.path().join("disk");
    File::create(&path)?.set_len(64 << 20)?;
    let machine = Machine {
        chipset: Chipset::Q35,
        ..Machine::default()
    };
    let machine = machine
        .with("-global")
        .with("ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")
        .with("-device")
        .with("ioh3420,id=root1,bus=pcie.0,addr=5,chassis=1,slot=1");
    let (mut session, monitor) = boot_watched("dom0-plug", machine)?;
    for id in ["first", "second"] {
        monitor.command(&format!(
            "drive_add 0 if=none,id={id},format=raw,file={}",
            path.display()
        ))?;
        plug(&monitor, id)?;
        run(
            &mut session,
            "mkdir -p /mnt; while [ ! -b /dev/vda ]; do sleep 1; done",
        )?;
        keeps_files(&mut session, "vda")?;
        let keys = asks_core(&mut session, "i")?;
        for message in [r"[1-9]\d* times: MSI 0 of 00:05\.0", r"MSI-X 1 of 01:00\.0"] {
            ensure!(
                Regex::new(message)?.is_match(&keys),
                "no {message}:\n{keys}"
            );
        }
        monitor.command(&format!("device_del d-{id}"))?;
        run(
            &mut session,
            "while [ -e /sys/bus/pci/devices/0000:01:00.0 ]; do sleep 1; done",
        )?;
        let keys = asks_core(&mut session, "i")?;
        ensure!(
            !keys.contains("01:00.0"),
            "it is gone, not its messages:\n{keys}"
        );
    }
    power_off(session)
}
