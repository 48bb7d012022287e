//! The cost of booting, from GRUB's jump to the first instructions and to the prompt, and of creating a domain there.
//!
//! QEMU's plug-in records the number of executed instructions at these places.

use super::counted::Counts;
use super::machine::{self, Figures, MEMORY_MIB};
use super::symbols::Symbols;
use super::{counted, entry};
use crate::build;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use xenlike_tests::machine::Machine;
use xenlike_tests::media::Media;
use xenlike_tests::paths::{Scratch, build as artefact, root};
use xenlike_tests::scenario::{BOOT, artefact_with, boot_to_prompt, power_off};

/// The row for a domain that the shell creates.
pub const CREATE: &str = "create_hello";

/// Measures from GRUB's jump to `kernel` to the first instruction of the benchmark guest as
/// Dom0, which `media` boots.
pub fn to_dom0(kernel: &Path, media: &Media) -> Result<Figures> {
    let scratch = Scratch::new("boot")?;
    let output = scratch.path().join("marks");
    let mut guest = Symbols::default();
    guest.add(&artefact("guests/bench"))?;
    let places = places(kernel, &[("start", guest.address("_start")?)])?;
    machine::marked(media, &build::counter()?, &output, &places)?;
    let text = fs::read_to_string(&output).context("the plug-in's output")?;
    let jump = reached(&text, "jump", 0)?;
    // If there was a boot domain before the guest, it has the same address.
    let starts = counted::marks(&text, "start");
    let start = starts.last().context("the guest did not start")?;
    Ok([("boot_to_dom0".to_owned(), start - jump)].into())
}

/// Measures the embedded control domain: its first instruction, its prompt, a domain created there.
pub fn to_prompt() -> Result<Figures> {
    let scratch = Scratch::new("boot")?;
    let output = scratch.path().join("marks");
    let media = artefact_with(&["hello", "hello.cfg"])?;
    machine::shell(&media, &build::counter()?, &output, &shell_places()?)?;
    let text = fs::read_to_string(&output).context("the plug-in's output")?;
    let at = |name: &str, index: usize| reached(&text, name, index);
    let jump = at("jump", 0)?;
    // Both guests begin at the same address; the boot domain comes first.
    let figures = [
        ("boot_to_boot_domain", at("start", 0)? - jump),
        ("boot_to_prompt", at("prompt", 0)? - jump),
        (CREATE, at("start", 1)? - at("command", 0)?),
    ];
    Ok(figures.map(|(name, value)| (name.to_owned(), value)).into())
}

/// The counts of the row `create_hello` by address.
pub fn create_counts() -> Result<Counts> {
    let scratch = Scratch::new("profile")?;
    let output = scratch.path().join("counts");
    let media = artefact_with(&["hello", "hello.cfg"])?;
    // The start of the boot domain ends no window, since none has begun.
    let [start, _, command] = shell_marks()?;
    let window = format!("from={:#x},to={:#x}", command.1, start.1);
    machine::shell(&media, &build::counter()?, &output, &window)?;
    let text = fs::read_to_string(&output).context("the plug-in's output")?;
    Ok(counted::counts(&text))
}

/// Measures the wall-clock time of `create hello.cfg --wait` in the emulated machine. It depends on the host's load.
pub fn milliseconds() -> Result<u128> {
    let media = artefact_with(&["hello", "hello.cfg"])?;
    let mut session = boot_to_prompt("bench-time", &media, &Machine::default())?;
    let start = Instant::now();
    session.succeed("create hello.cfg --wait", BOOT)?;
    let took = start.elapsed().as_millis();
    power_off(session)?;
    Ok(took)
}

/// The instructions before a place was reached for the n-th time.
fn reached(text: &str, name: &str, index: usize) -> Result<u64> {
    let found = counted::marks(text, name).get(index).copied();
    found.with_context(|| format!("{name} was not reached"))
}

/// The control domain's program, with symbols.
pub fn shell_program() -> PathBuf {
    root().join("target/x86_64-unknown-none/release/bootdom")
}

fn shell_places() -> Result<String> {
    places(&artefact("xenlike"), &shell_marks()?)
}

fn shell_marks() -> Result<[(&'static str, u64); 3]> {
    let mut shell = Symbols::default();
    shell.add(&shell_program())?;
    let method = |name: &'static str| {
        shell.address_where(name, |known| {
            known.contains("shell::Shell") && known.ends_with(name)
        })
    };
    Ok([
        ("start", shell.address("_start")?),
        ("prompt", method(">::prompt")?),
        ("command", method(">::run")?),
    ])
}

/// The kernel's entry and other places, as arguments of the plug-in.
fn places(kernel: &Path, others: &[(&str, u64)]) -> Result<String> {
    let bytes = fs::read(kernel).with_context(|| kernel.display().to_string())?;
    let entries = entry::candidates(&bytes, u64::from(MEMORY_MIB) << 20)?;
    let jumps = entries.into_iter().map(|address| ("jump", address));
    let all = jumps.chain(others.iter().copied());
    let marks: Vec<String> = all.map(|(name, address)| mark(name, address)).collect();
    Ok(marks.join(","))
}

/// One place, as an argument of the plug-in.
pub fn mark(name: &str, address: u64) -> String {
    format!("mark={name}@{address:#x}")
}
