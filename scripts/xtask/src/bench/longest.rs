//! `scripts/bench longest`: measures the longest time that a CPU stays in ring 0 with interrupts off, in executed
//! instructions. QEMU's plug-in counts them while a guest makes the longest calls and the shell makes its own.

use super::machine;
use super::symbols::Symbols;
use crate::build;
use crate::process;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;
use xenlike_tests::machine::Machine;
use xenlike_tests::media::Media;
use xenlike_tests::paths::{Scratch, build as artefact};
use xenlike_tests::scenario::{artefact_with, power_off};
use xenlike_tests::session::Session;

/// Options of `scripts/bench longest`.
#[derive(Args)]
pub struct Options {
    /// Makes this kind of calls alone: frames, leaving, lists, grants, timers, ports
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// How many of the longest runs are shown with the functions that they were in
    #[arg(long, default_value_t = 12)]
    shown: usize,
}

/// The number of instructions that take 0.2 ms at 3 GHz, with a cycle for each.
const LIMIT: u64 = 600_000;
/// Minimum length of a run to be reported by the plug-in.
const MIN_TICKS: u64 = 20_000;
/// Time limit for a command: counting is slow.
const PATIENCE: Duration = Duration::from_secs(300);
/// Number of functions that are named for a run.
const NAMED: usize = 4;

struct Run {
    instructions: u64,
    /// Functions with their numbers of samples, in descending order.
    functions: Vec<(String, usize)>,
}

/// Measures and prints. The programs must have been built.
///
/// # Errors
/// If a run is too long, or the boot fails.
pub fn longest(options: &Options) -> Result<()> {
    let mut symbols = Symbols::default();
    symbols.add(&artefact("xenlike"))?;
    let scratch = Scratch::new("longest")?;
    let output = scratch.path().join("runs");
    let machine = machine::with_plugin(&build::counter()?, &output, &arguments(&symbols)?);
    work(&machine, options.only.as_deref())?;
    let text = fs::read_to_string(&output).context("the plug-in's output")?;
    let mut runs: Vec<Run> = text
        .lines()
        .filter_map(|line| run(line, &symbols))
        .collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run.instructions));
    println!("the longest times in ring 0, in instructions");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for run in &runs {
        // Of several runs of one kind, only the longest is shown.
        let kind = run
            .functions
            .first()
            .map_or("", |(name, _)| name)
            .to_owned();
        let times = seen.entry(kind).or_default();
        *times += 1;
        if *times == 1 && seen.len() <= options.shown {
            let names = run.functions.iter().take(NAMED);
            let names: Vec<String> = names
                .map(|(name, count)| format!("{name} ({count})"))
                .collect();
            println!("{:>9} {}", run.instructions, names.join(", "));
        }
    }
    match runs.first() {
        Some(run) if run.instructions > LIMIT => bail!("more than {LIMIT} in one go"),
        _ => Ok(()),
    }
}

/// Ring 0 is the hypervisor's text, from its first exit on. An idle CPU enables interrupts after each `sti`,
/// which ends a run.
fn arguments(symbols: &Symbols) -> Result<String> {
    let mut objdump = Command::new("objdump");
    objdump
        .args(["-d", "--no-show-raw-insn"])
        .arg(artefact("xenlike"));
    let listing = process::output(&mut objdump)?;
    let mut lines = listing.lines().filter_map(|line| line.split_once(":\t"));
    let address = |text: &str| u64::from_str_radix(text.trim(), 16).ok();
    let first = lines
        .next()
        .and_then(|(at, _)| address(at))
        .context("no code")?;
    let (mut last, mut ends, mut after_sti) = (first, String::new(), false);
    for (at, instruction) in lines {
        let at = address(at).context("an address")?;
        if after_sti {
            ends.push_str(&format!(",end={at:#x}"));
        }
        after_sti = instruction.trim() == "sti";
        last = at;
    }
    let from = symbols.address("exit_to_guest")?;
    Ok(format!(
        "runs=ring0@{first:#x}-{last:#x},from={from:#x},least={MIN_TICKS}{ends}"
    ))
}

/// Boots, lets the guest make its calls, and makes the shell show and destroy it.
fn work(machine: &Machine, only: Option<&str>) -> Result<()> {
    let files = ["worst", "worst.cfg", "idle", "idle.cfg"];
    let media: Media = artefact_with(&files)?.and("console=com1");
    let mut session = Session::boot("bench-longest", &media, machine)?;
    session.expect_prompt(PATIENCE)?;
    let extra = only.map_or_else(String::new, |name| format!(" extra=only={name}"));
    session.send_line(&format!("create worst.cfg{extra} -c"))?;
    session.expect("^PASS worst", PATIENCE)?;
    session.expect_prompt(PATIENCE)?;
    if only.is_none() {
        session.succeed("create idle.cfg name=many vcpus=512 memory=64", PATIENCE)?;
        session.succeed("vcpu-list", PATIENCE)?;
        session.send("\x01\x01\x01")?;
        session.expect("serial input goes to the hypervisor", PATIENCE)?;
        session.send("hqrmisegd0?")?;
        session.read_until("key '.' has no meaning.*", PATIENCE)?;
        session.send("\x01\x01\x01")?;
        session.expect("serial input goes to domain 0", PATIENCE)?;
        session.send_line("")?;
        session.expect_prompt(PATIENCE)?;
        session.succeed("pause many", PATIENCE)?;
        session.succeed("unpause many", PATIENCE)?;
        session.succeed("destroy many", PATIENCE)?;
    }
    power_off(session)
}

fn run(line: &str, symbols: &Symbols) -> Option<Run> {
    let mut words = line.strip_prefix("run ")?.split(' ');
    let instructions = words.next()?.parse().ok()?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in words {
        let address = u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()?;
        *counts.entry(symbols.function(address)).or_default() += 1;
    }
    let mut functions: Vec<(String, usize)> = counts
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
    functions.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Some(Run {
        instructions,
        functions,
    })
}
