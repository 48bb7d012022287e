//! The image boots wherever the loader puts it, since the firmware may use the memory for which it is linked.

use anyhow::{Context, Result, ensure};
use std::fs;
use xenlike_tests::machine::{Firmware, Machine};
use xenlike_tests::paths::{Scratch, build};
use xenlike_tests::scenario::{BOOT, GUEST, SHORT, artefact_with, number_after, power_off};
use xenlike_tests::session::Session;

const HEADER: u32 = 0xe852_50d6;
const RELOCATABLE: u16 = 10;
const MIB: u32 = 1 << 20;

/// Changes the lowest address in the relocation tag of `kernel`'s header. A loader takes the lowest free
/// address from there on.
fn from(lowest: u32, mut kernel: Vec<u8>) -> Result<Vec<u8>> {
    let word = |kernel: &[u8], at: usize| -> Result<u32> {
        let bytes = kernel.get(at..at + 4).context("the header has no end")?;
        Ok(u32::from_le_bytes(bytes.try_into()?))
    };
    let mut places = (0..kernel.len()).step_by(8);
    let start = places.find(|at| word(&kernel, *at).is_ok_and(|magic| magic == HEADER));
    let mut at = start.context("no multiboot2 header")? + 16;
    loop {
        let (kind, bytes) = (word(&kernel, at)? as u16, word(&kernel, at + 4)?);
        ensure!(kind != 0, "the image can't be moved");
        if kind == RELOCATABLE {
            kernel[at + 8..at + 12].copy_from_slice(&lowest.to_le_bytes());
            return Ok(kernel);
        }
        at += (bytes as usize).next_multiple_of(8);
    }
}

fn start(name: &str, machine: &Machine, lowest: u32) -> Result<Session> {
    let scratch = Scratch::new(name)?;
    let kernel = scratch.path().join("xenlike");
    fs::write(&kernel, from(lowest, fs::read(build("xenlike"))?)?)?;
    let media = artefact_with(&["hello.cfg", "hello"])?
        .with_kernel(kernel)
        .and("loglvl=all");
    Session::boot(name, &media, machine)
}

/// Boots the image from `lowest` on, with 2 CPUs and a guest.
fn boots_at(name: &str, firmware: Firmware, lowest: u32) -> Result<()> {
    let machine = Machine {
        firmware,
        ..Machine::default()
    };
    let mut session = start(name, &machine, lowest)?;
    // Includes the character after the number, since a part of the number would match as well.
    let line = session.expect("image at 0x[0-9a-f]+[^0-9a-f]", BOOT)?;
    let digits = line.rsplit("0x").next().unwrap_or_default();
    let digits = digits.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
    let at = u32::from_str_radix(digits, 16)?;
    ensure!(
        at >= lowest && at.is_multiple_of(2 * MIB),
        "asked for {lowest:#x}: {line}"
    );
    session.expect_prompt(BOOT)?;
    let info = session.succeed("info", SHORT)?;
    ensure!(number_after("nr_cpus", &info)? == 2, "2 CPUs:\n{info}");
    session.succeed("create hello.cfg", GUEST)?;
    power_off(session)
}

macro_rules! places {
    ($($name:ident: $firmware:ident, $mib:literal;)*) => {$(
        #[test]
        #[ignore = "boots QEMU"]
        fn $name() -> Result<()> {
            boots_at(concat!("moved-", stringify!($name)), Firmware::$firmware, $mib * MIB)
        }
    )*};
}

places! {
    bios_lowest: Bios, 2;
    bios_16_mib: Bios, 16;
    bios_1_gib: Bios, 1024;
    uefi_lowest: Uefi, 2;
    uefi_64_mib: Uefi, 64;
    uefi_1_gib: Uefi, 1024;
}

/// The first instructions have messages too, and reach the text screen through real mode.
#[test]
#[ignore = "boots QEMU"]
fn a_moved_image_tells_why_it_cannot_run() -> Result<()> {
    let machine = Machine {
        cpu: "qemu32".to_owned(),
        cpus: 1,
        ..Machine::default()
    };
    let mut session = start("moved-refuses", &machine, 16 * MIB)?;
    session.allow_panic();
    session
        .expect("this CPU has no 64-bit mode", BOOT)
        .map(drop)
}
