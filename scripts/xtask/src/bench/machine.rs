//! The counting machine, and what the benchmark guest says on it.

use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use xenlike_tests::machine::{Chipset, Machine};
use xenlike_tests::media::Media;
use xenlike_tests::scenario::{BOOT, SHORT, number_after};
use xenlike_tests::session::Session;

/// Name of a figure and its value, in executed instructions.
pub type Figures = BTreeMap<String, u64>;

/// Longest time for a boot with all measurements: counting is slow.
const LIMIT: Duration = Duration::from_secs(300);

/// What is measured at the embedded control domain's prompt, in the counter's ticks.
pub struct ShellTimes {
    /// At the boot domain's first instruction.
    pub entry: u64,
    /// Before its first prompt.
    pub prompt: u64,
    /// From `create` to the domain's first instruction.
    pub create: u64,
    /// The guest's own figures, as a domain.
    pub as_guest: Figures,
}

/// A machine whose time-stamp counter counts executed instructions. With x2APIC, QEMU 10 stops with
/// "Bad icount read".
fn counting_machine() -> Machine {
    Machine {
        chipset: Chipset::Pc,
        cpus: 1,
        memory_mib: 512,
        cpu: "max,-x2apic".to_owned(),
        ..Machine::default()
    }
    .with("-icount")
    .with("shift=0,sleep=off")
}

/// Boots the benchmark guest as Dom0.
pub fn dom0(name: &str, media: &Media) -> Result<Figures> {
    let mut session = Session::boot(name, media, &counting_machine())?;
    let printed = session.read_until("^(PASS|FAIL) bench", LIMIT)?;
    Ok(parse(&printed))
}

/// Boots the benchmark guest as Dom0 under QEMU's counting plug-in, which writes `output`.
pub fn counted(media: &Media, plugin: &Path, output: &Path, window: &str) -> Result<Figures> {
    let argument = format!("{},out={},{window}", plugin.display(), output.display());
    let machine = counting_machine().with("-plugin").with(&argument);
    let mut session = Session::boot("bench-counted", media, &machine)?;
    let printed = session.read_until("^(PASS|FAIL) bench", LIMIT)?;
    session.expect_end(SHORT)?;
    Ok(parse(&printed))
}

/// Boots to the prompt, and creates the benchmark guest there.
pub fn shell(media: &Media) -> Result<ShellTimes> {
    let mut session = Session::boot("bench-shell", media, &counting_machine())?;
    session.expect_prompt(BOOT)?;
    let times = session.succeed("boot-times", SHORT)?;
    session.send_line("create bench.cfg -c")?;
    let printed = session.read_until("^(PASS|FAIL) bench", LIMIT)?;
    let mut as_guest = parse(&printed);
    let first = as_guest.remove("entry_tsc").unwrap_or_default();
    let before = number_after("now_tsc", &times)?;
    ensure!(
        first > before,
        "the domain began at {first}, before {before}"
    );
    Ok(ShellTimes {
        entry: number_after("entry_tsc", &times)?,
        prompt: number_after("prompt_tsc", &times)?,
        create: first - before,
        as_guest,
    })
}

/// The counter that a marked kernel prints.
pub fn printed_tsc(media: &Media) -> Result<u64> {
    let mut session = Session::boot("bench-jump", media, &counting_machine())?;
    let digits = session.expect("[0-9a-f]{16}", LIMIT)?;
    Ok(u64::from_str_radix(&digits, 16)?)
}

/// Lines `bench NAME NUMBER`, whatever a console puts before them.
fn parse(printed: &str) -> Figures {
    let figures = printed.lines().filter_map(|line| {
        let (_, rest) = line.split_once("bench ")?;
        let (name, value) = rest.trim().split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    figures.collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn figures_are_found_behind_a_prefix() {
        let figures = parse("(d0) bench xen_version 277\nbench x\nother\n");
        assert_eq!(figures.get("xen_version"), Some(&277));
        assert_eq!(figures.len(), 1);
    }
}
