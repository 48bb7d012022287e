//! From power-on to the prompt, on every kind of machine.

use anyhow::{Result, ensure};
use xenlike_tests::machine::{Chipset, Firmware, Machine};
use xenlike_tests::media::{Media, Module};
use xenlike_tests::scenario::{
    BOOT, SHORT, artefact_with, boot_to_prompt, find_file, number_after, power_off,
};
use xenlike_tests::session::Session;

/// Boots, checks the output of `info` about the machine, and powers off.
fn boots(name: &str, machine: &Machine) -> Result<()> {
    let mut session = boot_to_prompt(name, &artefact_with(&["hello.cfg"])?, machine)?;
    let info = session.succeed("info", SHORT)?;
    ensure!(
        number_after("nr_cpus", &info)? == u64::from(machine.cpus),
        "not all CPUs are up:\n{info}"
    );
    let memory_mib = number_after("total_memory", &info)?;
    let installed_mib = u64::from(machine.memory_mib);
    ensure!(
        memory_mib <= installed_mib && memory_mib + 64 > installed_mib,
        "{installed_mib} MiB are installed:\n{info}"
    );
    let list = session.succeed("list", SHORT)?;
    ensure!(list.contains("Domain-0"), "no Domain-0 in:\n{list}");
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
            boots(concat!("boot-", stringify!($name)), &machine)
        }
    )*};
}

matrix! {
    pc_bios_1_cpu: Pc, Bios, 1, 1024;
    pc_bios_2_cpus: Pc, Bios, 2, 1024;
    pc_bios_4_cpus: Pc, Bios, 4, 1024;
    q35_bios_1_cpu: Q35, Bios, 1, 1024;
    q35_bios_2_cpus: Q35, Bios, 2, 1024;
    q35_bios_4_cpus: Q35, Bios, 4, 6144;
    pc_uefi_1_cpu: Pc, Uefi, 1, 1024;
    pc_uefi_2_cpus: Pc, Uefi, 2, 1024;
    pc_uefi_4_cpus: Pc, Uefi, 4, 1024;
    q35_uefi_1_cpu: Q35, Uefi, 1, 1024;
    q35_uefi_2_cpus: Q35, Uefi, 2, 1024;
    q35_uefi_4_cpus: Q35, Uefi, 4, 6144;
    q35_bios_8_cpus: Q35, Bios, 8, 1024;
    pc_bios_512_mib: Pc, Bios, 1, 512;
}

/// On demand: `XENLIKE_LARGE=1 scripts/test qemu 20_gib`.
#[test]
#[ignore = "boots QEMU"]
fn q35_uefi_20_gib() -> Result<()> {
    if std::env::var_os("XENLIKE_LARGE").is_none() {
        return Ok(());
    }
    let machine = Machine {
        firmware: Firmware::Uefi,
        memory_mib: 20 << 10,
        ..Machine::default()
    };
    boots("boot-20-gib", &machine)
}

/// Far more memory than the host has: only pages that the hypervisor touches are allocated.
#[test]
#[ignore = "boots QEMU"]
fn sparse_64_gib() -> Result<()> {
    let machine = Machine {
        memory_mib: 64 << 10,
        ..Machine::default()
    }
    .with("-object")
    .with("memory-backend-ram,id=sparse,size=64G,reserve=off")
    .with("-machine")
    .with("memory-backend=sparse");
    boots("boot-sparse", &machine)
}

#[test]
#[ignore = "boots QEMU"]
fn without_x2apic() -> Result<()> {
    let machine = Machine {
        cpu: "max,-x2apic".to_owned(),
        ..Machine::default()
    };
    boots("boot-xapic", &machine)
}

/// As on hardware without interrupt remapping, x2APIC mode is used only on request.
#[test]
#[ignore = "boots QEMU"]
fn x2apic_mode_needs_a_reason() -> Result<()> {
    for (option, mode) in [("", "xAPIC"), ("x2apic=yes", "x2APIC")] {
        let machine = Machine {
            cpu: "max,-hypervisor".to_owned(),
            ..Machine::default()
        };
        let media = artefact_with(&["hello.cfg"])?.and(option);
        let mut session = boot_to_prompt("boot-apic-mode", &media, &machine)?;
        let log = session.succeed("dmesg", SHORT)?;
        ensure!(
            log.contains(&format!("local APICs in {mode} mode")),
            "{log}"
        );
        power_off(session)?;
    }
    Ok(())
}

/// QEMU counts instructions here and runs one CPU at a time, so the other CPUs come up late.
#[test]
#[ignore = "boots QEMU"]
fn dom0_has_a_vcpu_for_each_cpu_that_comes_up_late() -> Result<()> {
    let machine = Machine {
        chipset: Chipset::Pc,
        cpus: 2,
        memory_mib: 512,
        cpu: "max,-x2apic".to_owned(),
        ..Machine::default()
    }
    .with("-icount")
    .with("shift=0,sleep=off")
    .with("-rtc")
    .with("base=2020-01-01T00:00:00,clock=vm")
    .with("-seed")
    .with("1");
    let guest = Module::with_arguments(find_file("bench")?, "scaling=vcpus only=vcpus");
    let mut session = Session::boot("boot-late", &Media::xenlike().module(guest), &machine)?;
    let line = session.expect("bench vcpus [0-9]+\\s", BOOT)?;
    ensure!(line.trim() == "bench vcpus 2", "2 CPUs, and {line}");
    session.expect("PASS bench", BOOT).map(drop)
}

#[test]
#[ignore = "boots QEMU"]
fn without_hpet() -> Result<()> {
    let machine = Machine::default().with("-machine").with("hpet=off");
    boots("boot-no-hpet", &machine)
}
