//! `bugreport`: collects in one text what a developer needs to know about a machine on which something fails. A part
//! that can't be read is replaced by the reason, since reports from broken machines matter most.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dom0_tools::hyper::machine::{self, Clear};
use dom0_tools::hyper::memory::{self, E820Entry};
use dom0_tools::ops::view;
use guest_pv_abi::memory as abi;

use crate::commands::{self, print};
use crate::privcmd::Privcmd;

/// Collects the report and prints it, or writes it to `output`.
pub fn collect(output: Option<&Path>) -> Result<()> {
    let report = report();
    let Some(path) = output else {
        print(&report);
        return Ok(());
    };
    fs::write(path, report).with_context(|| format!("can't write {}", path.display()))?;
    println!(
        "{}: look through it before you send it, command lines and logs may tell more than you want",
        path.display()
    );
    Ok(())
}

/// A part of the report: its heading and the function that reads it.
type Part = (&'static str, fn() -> Result<String>);

const PARTS: [Part; 10] = [
    ("Hypervisor", hypervisor),
    ("Firmware and board", board),
    ("CPU, as Dom0 sees it", cpu),
    ("ACPI tables", acpi_tables),
    ("Memory map of the machine", memory_map),
    ("PCI devices", pci_devices),
    ("Dom0's kernel", kernel),
    ("Dom0's clock", clock),
    ("Dom0's interrupts", interrupts),
    ("Log of the hypervisor", log),
];

fn report() -> String {
    let mut report = String::new();
    for (heading, read) in PARTS {
        let text = read().unwrap_or_else(|error| format!("can't be read: {error:#}"));
        let _ = write!(report, "== {heading}\n{}\n\n", text.trim_end());
    }
    report
}

fn hypervisor() -> Result<String> {
    Ok(view::host_text(&commands::host()?))
}

/// The machine's model according to SMBIOS. Serial numbers and asset tags are left out, since
/// they identify the owner.
fn board() -> Result<String> {
    const FIELDS: [&str; 9] = [
        "sys_vendor",
        "product_name",
        "product_version",
        "board_vendor",
        "board_name",
        "board_version",
        "bios_vendor",
        "bios_version",
        "bios_date",
    ];
    let folder = Path::new("/sys/class/dmi/id");
    let mut text = String::new();
    for field in FIELDS {
        if let Ok(value) = fs::read_to_string(folder.join(field)) {
            let _ = writeln!(text, "{field:<16}: {}", value.trim());
        }
    }
    let way = if Path::new("/sys/firmware/efi").exists() {
        "UEFI"
    } else {
        "BIOS, or UEFI that Dom0 doesn't see"
    };
    let _ = writeln!(text, "{:<16}: {way}", "booted by");
    Ok(text)
}

/// The first CPU's lines of /proc/cpuinfo, and the number of CPUs with the same lines.
fn cpu() -> Result<String> {
    let text = read("/proc/cpuinfo")?;
    let first = text.split("\n\n").next().unwrap_or_default();
    let count = text
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    Ok(format!("{count} vCPUs like this one:\n{first}"))
}

fn acpi_tables() -> Result<String> {
    let mut paths = files("/sys/firmware/acpi/tables")?;
    // Tables that AML code of other tables has loaded later.
    paths.extend(files("/sys/firmware/acpi/tables/dynamic").unwrap_or_default());
    let mut text = String::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let line = fs::read(&path).map_or_else(|error| error.to_string(), |it| table_line(&it));
        let _ = writeln!(text, "{name:<8} {line}");
    }
    Ok(text)
}

/// A table's length, revision, OEM fields and checksum (ACPI 6.5, section 5.2.6).
fn table_line(table: &[u8]) -> String {
    let text = |from, to| {
        let bytes = table.get(from..to).unwrap_or_default();
        String::from_utf8_lossy(bytes)
            .trim_end_matches(['\0', ' '])
            .escape_debug()
            .to_string()
    };
    if table.get(..4) == Some(b"FACS") {
        return format!("{} bytes, has no sum", table.len());
    }
    let Some(&[revision, ..]) = table.get(8..36) else {
        return format!("{} bytes, shorter than a table's header", table.len());
    };
    let sum = table.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
    let sum = if sum == 0 {
        "sum right".to_owned()
    } else {
        format!("SUM WRONG by {sum:#04x}")
    };
    let makers = [text(10, 16), text(16, 24), text(28, 32)].join(" ");
    format!(
        "{} bytes, revision {revision}, {makers}, {sum}",
        table.len()
    )
}

fn memory_map() -> Result<String> {
    let map = memory::machine_memory_map(&mut Privcmd::open()?)?;
    Ok(map.iter().map(range_line).collect())
}

fn range_line(range: &E820Entry) -> String {
    let E820Entry { addr, size, type_ } = *range;
    let kind = match type_ {
        abi::E820_RAM => "usable",
        abi::E820_RESERVED => "reserved",
        abi::E820_ACPI => "ACPI tables",
        abi::E820_NVS => "ACPI NVS",
        abi::E820_UNUSABLE => "bad",
        _ => "of an unknown type",
    };
    let last = addr.wrapping_add(size).wrapping_sub(1);
    format!("{addr:#014x}-{last:#014x} {kind} ({type_})\n")
}

fn pci_devices() -> Result<String> {
    let mut text = String::new();
    for device in files("/sys/bus/pci/devices")? {
        let field = |name: &str| {
            let value = fs::read_to_string(device.join(name)).unwrap_or_default();
            value.trim().trim_start_matches("0x").to_owned()
        };
        let driver = fs::read_link(device.join("driver")).unwrap_or_default();
        let name = |path: &Path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let _ = writeln!(
            text,
            "{} {}:{} class {} {}",
            name(&device),
            field("vendor"),
            field("device"),
            field("class"),
            name(&driver)
        );
    }
    Ok(text)
}

fn kernel() -> Result<String> {
    Ok(read("/proc/version")? + &read("/proc/cmdline")?)
}

fn clock() -> Result<String> {
    let folder = "/sys/devices/system/clocksource/clocksource0";
    let current = read(&format!("{folder}/current_clocksource"))?;
    let available = read(&format!("{folder}/available_clocksource"))?;
    Ok(format!("{} of {}", current.trim(), available.trim()))
}

fn interrupts() -> Result<String> {
    read("/proc/interrupts")
}

fn log() -> Result<String> {
    let log = machine::log(&mut Privcmd::open()?, Clear::No)?;
    Ok(String::from_utf8_lossy(&log).into_owned())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.to_owned())
}

/// The files in a folder, sorted by name; folders are left out unless they are links.
fn files(folder: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.to_owned())? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<u8> {
        let mut table = vec![0_u8; 40];
        table[..4].copy_from_slice(b"APIC");
        table[8] = 3;
        table[10..16].copy_from_slice(b"BOCHS ");
        table[16..24].copy_from_slice(b"BXPC\xff\n\0\0");
        let sum = table.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
        table[9] = 0_u8.wrapping_sub(sum);
        table
    }

    #[test]
    fn a_tables_sum_is_told() {
        let mut table = table();
        let line = table_line(&table);
        assert!(
            line.starts_with("40 bytes, revision 3, BOCHS BXPC"),
            "{line}"
        );
        assert!(line.ends_with("sum right"), "{line}");
        table[39] = 7;
        let line = table_line(&table);
        assert!(line.ends_with("SUM WRONG by 0x07"), "{line}");
    }

    /// Names from the firmware can't break the report's lines or the terminal.
    #[test]
    fn names_are_made_printable() {
        let line = table_line(&table());
        assert!(line.chars().all(|char| !char.is_control()), "{line:?}");
    }

    #[test]
    fn short_and_sumless_tables_are_named() {
        assert!(table_line(b"FACS").contains("has no sum"));
        assert!(table_line(b"SSDT").contains("shorter than"));
        assert!(table_line(&[]).contains("shorter than"));
    }

    #[test]
    fn ranges_have_their_last_byte() {
        let range = E820Entry {
            addr: 0x10_0000,
            size: 0x1000,
            type_: 1,
        };
        assert_eq!(
            range_line(&range),
            "0x000000100000-0x000000100fff usable (1)\n"
        );
    }
}
