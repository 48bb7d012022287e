//! `scripts/bench dom0 --profile ROW`: shows where a row's instructions go, the hypervisor's by function. The row
//! `boot` is the boot of Dom0.

use super::super::boot::shell_program;
use super::super::counted::{self, Counts};
use super::super::symbols::Symbols;
use super::super::{machine, profile};
use super::boot::{LIMIT, MEMORY_MIB};
use super::{Hypervisor, boot, guests};
use crate::build;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use xenlike_tests::machine::Machine;
use xenlike_tests::paths::{Scratch, build as artefact};
use xenlike_tests::session::Session;

/// The row that isn't measured in a process.
const BOOT: &str = "boot";

/// L4 slots 256 to 271, and after them the boot domain, which runs before Linux.
const HYPERVISOR: RangeInclusive<u64> = 0xffff_8000_0000_0000..=0xffff_87ff_ffff_ffff;
const BOOT_DOMAIN: RangeInclusive<u64> = 0xffff_ffff_8000_0000..=0xffff_ffff_80ff_ffff;

/// Runs the row in Dom0 under both hypervisors, counts by address, and prints the result.
pub fn profile(row: &str, program: &Path) -> Result<()> {
    let symbols = symbols()?;
    if row == BOOT {
        let by_name = shares(boot()?, Hypervisor::Xenlike, &symbols);
        profile::print("from the boot domain's start to init and off", by_name, 1);
        return Ok(());
    }
    for hypervisor in [Hypervisor::Xenlike, Hypervisor::Xen] {
        let (counts, operations) = count(row, program, hypervisor)?;
        let by_name = shares(counts, hypervisor, &symbols);
        profile::print(&format!("{row} on {hypervisor:?}"), by_name, operations);
    }
    Ok(())
}

fn symbols() -> Result<Symbols> {
    let mut symbols = Symbols::default();
    symbols.add(&artefact("xenlike"))?;
    symbols.add(&shell_program())?;
    Ok(symbols)
}

fn shares(counts: Counts, hypervisor: Hypervisor, symbols: &Symbols) -> BTreeMap<String, u64> {
    let mut by_name = BTreeMap::new();
    for (address, count) in counts {
        let name = match (hypervisor, HYPERVISOR.contains(&address)) {
            (Hypervisor::Xen, true) => "Xen".to_owned(),
            (Hypervisor::Xenlike, true) => symbols.function(address).to_owned(),
            (_, false) if BOOT_DOMAIN.contains(&address) => {
                format!("boot domain: {}", symbols.function(address))
            }
            (_, false) => "Linux and its processes".to_owned(),
        };
        *by_name.entry(name).or_default() += count;
    }
    by_name
}

/// Counts from the boot domain's first instruction on, while Linux boots as Dom0 and powers off.
fn boot() -> Result<Counts> {
    let scratch = Scratch::new("boot-profile")?;
    let output = scratch.path().join("counts");
    let start = BOOT_DOMAIN.start();
    let machine = Machine {
        memory_mib: MEMORY_MIB,
        ..machine::with_plugin(&build::counter()?, &output, &format!("from={start:#x}"))
    };
    let media = boot::media(Hypervisor::Xenlike, "xenlike.run=poweroff")?;
    Session::boot("boot-profile", &media, &machine)?.expect_end(LIMIT)?;
    Ok(counted::counts(&fs::read_to_string(&output)?))
}

fn count(row: &str, program: &Path, hypervisor: Hypervisor) -> Result<(Counts, u64)> {
    let scratch = Scratch::new("linux-profile")?;
    let output = scratch.path().join("counts");
    let mut symbols = Symbols::default();
    symbols.add(program)?;
    let plugin = build::counter()?;
    let machine = Machine {
        memory_mib: MEMORY_MIB,
        ..machine::with_plugin(&plugin, &output, &symbols.window()?)
    };
    let initrd = guests::initrd(program, &scratch)?;
    let words = format!("only={row}");
    let figures = guests::dom0_to_end(hypervisor, &initrd, &words, &machine)?;
    let operations = figures.get("operations").copied();
    let operations = operations.with_context(|| format!("no row is called {row}"))?;
    let text = fs::read_to_string(&output).context("the plug-in's output")?;
    Ok((counted::counts(&text), operations))
}
