//! Microcode updates, with files that the tests build. QEMU's CPUs ignore updates, but report a revision.

use crate::xl;
use anyhow::{Context, Result, ensure};
use std::fs;
use xenlike_tests::cpio::{Archive, Entry};
use xenlike_tests::machine::Machine;
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::Scratch;
use xenlike_tests::scenario::{LINUX, SHORT, boot_to_prompt, find_file, media_with, power_off};

const INTEL: &str = "Skylake-Client-v1,vendor=GenuineIntel";
const INTEL_SIGNATURE: u32 = 0x506e3;

/// A minimal Intel update with a correct checksum.
fn intel(signature: u32, revision: u32) -> Vec<u8> {
    let mut words = [0_u32; 256];
    words[..9].copy_from_slice(&[1, revision, 0x0214_2024, signature, 0, 1, 0xff, 976, 1024]);
    words[4] = 0_u32.wrapping_sub(words.iter().copied().fold(0, u32::wrapping_add));
    words.map(u32::to_le_bytes).concat()
}

/// AMD's container with one update for CPUs with this signature.
fn amd(signature: u32, revision: u32) -> Vec<u8> {
    let table = [signature, 0, 0, 0x1022, 0, 0, 0, 0];
    let mut update = [0_u32; 16];
    (update[1], update[6]) = (revision, 0x1022);
    let words = [0x0041_4d44, 0, 32].into_iter().chain(table);
    let words = words.chain([1, 64]).chain(update);
    words.flat_map(u32::to_le_bytes).collect()
}

/// The start of an initrd as Debian makes it.
fn archive(vendor: &str, file: &[u8]) -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in ["kernel", "kernel/x86", "kernel/x86/microcode"] {
        archive.add(folder, &Entry::Directory);
    }
    archive.add(
        &format!("kernel/x86/microcode/{vendor}.bin"),
        &Entry::File(file),
    );
    let mut bytes = archive.finish();
    bytes.extend(b"\xfd7zXZ, the compressed rest");
    bytes
}

/// The log's messages about microcode, when `module` is the second of GRUB's three modules.
fn said(cpu: &str, option: &str, module: &[u8]) -> Result<String> {
    let scratch = Scratch::new("microcode")?;
    let path = scratch.path().join("module");
    fs::write(&path, module).context("the module")?;
    let machine = Machine {
        cpu: cpu.to_owned(),
        memory_mib: 512,
        ..Machine::default()
    };
    let media: Media = media_with(&["hello"])?
        .module(Module::with_arguments(path, "file=second"))
        .module(Module::file("hello.cfg", find_file("hello.cfg")?))
        .and(option);
    let mut session = boot_to_prompt("microcode", &media, &machine)?;
    let log = session.succeed("dmesg", SHORT)?;
    session.succeed("create hello.cfg", SHORT)?;
    power_off(session)?;
    let lines = log.lines().filter(|line| line.contains("microcode"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn says(cpu: &str, option: &str, module: &[u8], sentence: &str) -> Result<()> {
    let said = said(cpu, option, module)?;
    ensure!(
        said.contains(sentence),
        "{cpu} {option}: no '{sentence}' in:\n{said}"
    );
    Ok(())
}

/// With any module, the machine boots, and the log says what happened.
#[test]
#[ignore = "boots QEMU"]
fn early_updates_of_intels() -> Result<()> {
    let fits = archive("GenuineIntel", &intel(INTEL_SIGNATURE, 0xf0));
    let mut damaged = fits.clone();
    let end = damaged.len();
    damaged[end - 1000] ^= 1;
    let other = archive("GenuineIntel", &intel(0x906ea, 0xf0));
    let same = intel(INTEL_SIGNATURE, 1);
    for (option, module, sentence) in [
        (
            "ucode=scan",
            &fits,
            "the CPU did not take revision 0xf0, it has 0x1",
        ),
        (
            "ucode=scan",
            &damaged,
            "the file is damaged: an update's sum is wrong",
        ),
        ("ucode=scan", &other, "the file has no update for this CPU"),
        ("ucode=-2", &same, "the file has revision 0x1, the CPU 0x1"),
        ("ucode=1", &fits, "the file is damaged"),
        (
            "ucode=9",
            &fits,
            "there is no module with the number that ucode= names",
        ),
    ] {
        says(INTEL, option, module, sentence)?;
    }
    Ok(())
}

#[test]
#[ignore = "boots QEMU"]
fn early_updates_of_amds() -> Result<()> {
    let barcelona = archive("AuthenticAMD", &amd(0x0010_0f23, 0x0100_0095));
    let refused = "the CPU did not take revision 0x1000095";
    let cpu = "Opteron_G3-v1,vendor=AuthenticAMD,family=16,model=2,stepping=3";
    says(cpu, "ucode=scan", &barcelona, refused)?;
    let zen = archive("AuthenticAMD", &amd(0x0080_0f12, 0x0800_1270));
    says(
        "EPYC-v1",
        "ucode=scan",
        &zen,
        "this CPU would take a forged update",
    )?;
    let trusting = "ucode=scan,digest-check=no";
    says(
        "EPYC-v1",
        trusting,
        &zen,
        "the CPU did not take revision 0x8001270",
    )?;
    says("max", "ucode=scan", &zen, "this CPU takes no updates")
}

/// Domain 0's tool reports Xen's error numbers, and with force all CPUs meet and load the revision that they have.
#[test]
#[ignore = "boots QEMU"]
fn late_updates() -> Result<()> {
    let scratch = Scratch::new("microcode-late")?;
    let mut files = vec![("short", b"nothing".to_vec())];
    for (name, signature, revision) in [
        ("other", 0x906ea, 9),
        ("same", INTEL_SIGNATURE, 1),
        ("newer", INTEL_SIGNATURE, 9),
    ] {
        files.push((name, intel(signature, revision)));
    }
    let machine = Machine {
        cpu: INTEL.to_owned(),
        cpus: 4,
        ..Machine::default()
    };
    let mut session = xl::boot_with("microcode-late", &scratch, &machine, &files)?;
    for (arguments, answer) in [
        ("short", "Invalid argument"),
        ("other", "No such file or directory"),
        ("newer", "Input/output error"),
        ("same", "already up to date"),
    ] {
        let said = xl::run(&mut session, &format!("xen-ucode {arguments}"))?;
        ensure!(said.contains(answer), "xen-ucode {arguments}:\n{said}");
    }
    for _ in 0..5 {
        xl::succeed(&mut session, "xen-ucode --force same")?;
    }
    let log = xl::succeed(&mut session, "xl dmesg")?;
    let held = log
        .matches("all CPUs have been updated to revision 0x1")
        .count();
    ensure!(held == 5 && !log.contains("NMI"), "{log}");
    // `dom0::power_off` would fail, since Linux warns of this CPU's vulnerabilities.
    session.audit()?;
    session.send_line("poweroff -f")?;
    session.expect_end(LINUX).map(drop)
}
