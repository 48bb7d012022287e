//! Machines with faulty ACPI tables, which GRUB's `acpi` command and QEMU's `-acpitable` put there.

use anyhow::{Context, Result, ensure};
use std::fs;
use xenlike_tests::machine::Machine;
use xenlike_tests::media::Media;
use xenlike_tests::paths::Scratch;
use xenlike_tests::scenario::{BOOT, SHORT, artefact_with, media_with, number_after, power_off};
use xenlike_tests::session::Session;

/// An ACPI table: signature and body, with a valid header.
fn table(signature: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = signature.as_bytes().to_vec();
    bytes.extend((36 + body.len() as u32).to_le_bytes());
    // Revision and checksum; the names of the firmware's vendor; three version words.
    bytes.extend([3, 0]);
    bytes.extend(b"XENLIKETABLES.");
    bytes.extend([0; 12]);
    bytes.extend(body);
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[9] = 0_u8.wrapping_sub(sum);
    bytes
}

/// The MADT of QEMU's q35 with two CPUs, without its local APIC NMI entry, which the core doesn't need.
fn madt(further: &[u8]) -> Vec<u8> {
    let mut body = [0xfee0_0000_u32, 1].map(u32::to_le_bytes).concat();
    for id in 0..2 {
        body.extend([0, 8, id, id, 1, 0, 0, 0]);
    }
    body.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    body.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    body.extend(further);
    table("APIC", &body)
}

/// Boots to the shell on two CPUs, with any tables; returns the boot's output.
fn boots(name: &str, media: &Media, machine: &Machine, cpus: u64) -> Result<String> {
    let mut session = Session::boot(name, media, machine)?;
    let boot = session.read_until("^xenlike> ", BOOT)?;
    let info = session.succeed("info", SHORT)?;
    ensure!(
        number_after("nr_cpus", &info)? == cpus,
        "CPUs:\n{boot}{info}"
    );
    power_off(session)?;
    Ok(boot)
}

fn boots_with_madt(name: &str, madt: Vec<u8>) -> Result<String> {
    let media = artefact_with(&[])?.with_acpi_table("APIC", madt);
    boots(name, &media, &Machine::default(), 2)
}

fn warns(boot: &str, sentence: &str) -> Result<()> {
    ensure!(boot.contains(sentence), "no '{sentence}':\n{boot}");
    Ok(())
}

#[test]
#[ignore = "boots QEMU"]
fn an_entry_without_length_ends_the_list() -> Result<()> {
    let boot = boots_with_madt("acpi-madt-zero", madt(&[0; 8]))?;
    warns(&boot, "an entry of the MADT (type 0) can't be 0 bytes long")
}

#[test]
#[ignore = "boots QEMU"]
fn an_entry_that_overruns_its_table_is_ignored() -> Result<()> {
    let boot = boots_with_madt("acpi-madt-overrun", madt(&[0, 200, 7, 7, 1, 0]))?;
    warns(
        &boot,
        "an entry of the MADT (type 0) can't be 200 bytes long",
    )
}

#[test]
#[ignore = "boots QEMU"]
fn a_wrong_checksum_bad_names_and_hostile_addresses_cost_no_cpu() -> Result<()> {
    // An I/O APIC in RAM, and local APICs at addresses beyond what the CPU supports.
    let mut further = vec![1, 12, 1, 0, 0, 0, 0x10, 0, 64, 0, 0, 0];
    further.extend([5, 12, 0, 0, 0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let mut madt = madt(&further);
    // The names aren't text, and the checksum is wrong.
    madt[10..24].fill(0xff);
    let boot = boots_with_madt("acpi-madt-checksum", madt)?;
    warns(&boot, "ACPI: the bytes of table APIC add up to")?;
    warns(&boot, "ACPI: there can be no I/O APIC at 0x100000")?;
    warns(&boot, "ACPI: there can be no local APIC at 0xffff")
}

/// An HPET's table may say that the HPET is in I/O ports.
#[test]
#[ignore = "boots QEMU"]
fn an_hpet_that_is_not_in_memory_is_ignored() -> Result<()> {
    let scratch = Scratch::new("acpi")?;
    let file = scratch.path().join("hpet.dat");
    let mut body = vec![1, 0xa2, 0x86, 0x80, 1, 64, 0, 0];
    body.extend(0xfed0_0000_u64.to_le_bytes());
    body.extend([0; 4]);
    fs::write(&file, table("HPET", &body)).context("the table")?;
    let machine = Machine::default()
        .with("-machine")
        .with("hpet=off")
        .with("-acpitable")
        .with(&format!("file={}", file.display()));
    let boot = boots("acpi-hpet-ports", &artefact_with(&[])?, &machine, 2)?;
    warns(&boot, "ACPI: there can be no HPET at 0xfed00000")
}

/// The test build treats the memory with the tables as RAM, as if the firmware had said so: the tables are kept, and
/// Linux as domain 0 reads them.
#[test]
#[ignore = "boots QEMU"]
fn tables_in_free_memory_are_kept() -> Result<()> {
    let media = media_with(&[])?.and("tables-in-ram");
    let boot = boots("acpi-in-ram", &media, &Machine::default(), 2)?;
    warns(
        &boot,
        "tables lie in memory that the firmware says is free; they are kept",
    )?;
    let mut session =
        crate::dom0::boot_with("acpi-in-ram-dom0", &Machine::default(), "", "tables-in-ram")?;
    let tables = crate::dom0::run(&mut session, "ls /sys/firmware/acpi/tables")?;
    ensure!(
        tables.contains("APIC") && tables.contains("HPET"),
        "{tables}"
    );
    crate::dom0::power_off(session)
}
