//! The counting machine, and the output of the benchmark guest on it.

use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use xenlike_tests::machine::{Chipset, Machine};
use xenlike_tests::media::Media;
use xenlike_tests::monitor::Monitor;
use xenlike_tests::scenario::{SHORT, power_off};
use xenlike_tests::session::Session;

/// Figures by name, in executed instructions.
pub type Figures = BTreeMap<String, u64>;

/// Memory of the machine in MiB.
pub const MEMORY_MIB: u32 = 512;

/// Time limit for a boot with all measurements: counting is slow.
const LIMIT: Duration = Duration::from_secs(300);

/// A machine whose time-stamp counter counts executed instructions, and whose other clocks follow it, so
/// that a hypervisor that waits for a clock always waits for the same number. With x2APIC, QEMU 10 stops
/// with "Bad icount read".
pub fn counting_machine() -> Machine {
    Machine {
        chipset: Chipset::Pc,
        cpus: 1,
        memory_mib: MEMORY_MIB,
        cpu: "max,-x2apic".to_owned(),
        ..Machine::default()
    }
    .with("-icount")
    .with("shift=0,sleep=off")
    .with("-rtc")
    .with("base=2020-01-01T00:00:00,clock=vm")
    .with("-seed")
    .with("1")
}

/// Boots the benchmark guest as Dom0.
pub fn dom0(name: &str, media: &Media) -> Result<Figures> {
    dom0_on(name, media, &counting_machine())
}

/// Like [`dom0`], on another machine.
pub fn dom0_on(name: &str, media: &Media, machine: &Machine) -> Result<Figures> {
    let mut session = Session::boot(name, media, machine)?;
    let printed = session.read_until("^(PASS|FAIL) bench", LIMIT)?;
    Ok(parse(&printed))
}

/// The counting machine with QEMU's counting plug-in, which writes to `output`.
pub fn with_plugin(plugin: &Path, output: &Path, arguments: &str) -> Machine {
    let argument = format!("{},out={},{arguments}", plugin.display(), output.display());
    counting_machine().with("-plugin").with(&argument)
}

/// Boots the benchmark guest as Dom0 under the plug-in. The counts are written when the machine has ended.
pub fn counted(media: &Media, plugin: &Path, output: &Path, window: &str) -> Result<Figures> {
    counted_on(media, &with_plugin(plugin, output, window))
}

/// Like [`counted`], on another machine with the plug-in. QEMU is told to quit, since Xen only halts the machine.
pub fn counted_on(media: &Media, machine: &Machine) -> Result<Figures> {
    let monitor = Monitor::new()?;
    let machine = monitor.on(machine.clone());
    let mut session = Session::boot("bench-counted", media, &machine)?;
    let printed = session.read_until("^(PASS|FAIL) bench", LIMIT)?;
    monitor.quit();
    session.expect_end(SHORT)?;
    Ok(parse(&printed))
}

/// Boots the benchmark guest as Dom0 under the plug-in. Marks are written at once, so the machine needn't end:
/// Xen only halts it.
pub fn marked(media: &Media, plugin: &Path, output: &Path, marks: &str) -> Result<()> {
    let machine = with_plugin(plugin, output, marks);
    until(media, &machine, "^(PASS|FAIL) bench", LIMIT)
}

/// Boots until the console prints a line that matches.
pub fn until(media: &Media, machine: &Machine, pattern: &str, limit: Duration) -> Result<()> {
    let mut session = Session::boot("bench-marked", media, machine)?;
    session.expect(pattern, limit).map(drop)
}

/// Boots to the prompt under the plug-in, and creates the smallest guest there.
pub fn shell(media: &Media, plugin: &Path, output: &Path, marks: &str) -> Result<()> {
    let machine = with_plugin(plugin, output, marks);
    let mut session = Session::boot("bench-shell", media, &machine)?;
    session.expect_prompt(LIMIT)?;
    session.succeed("create hello.cfg --wait", LIMIT)?;
    power_off(session)
}

/// Parses lines `bench NAME NUMBER`, with any prefix that a console adds.
pub fn parse(printed: &str) -> Figures {
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
