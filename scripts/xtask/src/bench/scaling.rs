//! `scripts/bench scaling`: measures how many domains, a large guest or many vCPUs change the cost of an operation.

use super::counted;
use super::machine::{self, Figures, counting_machine};
use super::runs::{self, Domains};
use super::symbols::Symbols;
use super::{curves, table};
use crate::build;
use anyhow::{Context, Result};
use clap::Args;
use std::fs;
use xenlike_tests::machine::Machine;
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::{Scratch, build as artefact, root};
use xenlike_tests::scenario::find_file;

/// Options of `scripts/bench scaling`.
#[derive(Args)]
pub struct Options {
    /// At most so many domains
    #[arg(long, default_value_t = 400)]
    domains: u32,
    /// xenlike alone
    #[arg(long)]
    ours: bool,
}

/// An operation's cost by the number of something.
pub struct Series {
    /// The operation, for readers.
    pub name: &'static str,
    /// What is counted on the horizontal axis.
    pub unit: &'static str,
    /// xenlike's figures: number and instructions.
    pub ours: Vec<(u64, u64)>,
    /// Xen's figures: number and instructions.
    pub theirs: Vec<(u64, u64)>,
}

/// Figures `NAME@NUMBER` of both hypervisors.
struct Both {
    ours: Figures,
    theirs: Figures,
}

impl Both {
    /// Runs `measure` under xenlike, and under Xen if it is given.
    fn of(xen: Option<&Media>, measure: impl Fn(&Media) -> Result<Figures>) -> Result<Self> {
        Ok(Self {
            ours: measure(&Media::xenlike())?,
            theirs: xen.map_or(Ok(Figures::new()), &measure)?,
        })
    }

    /// A series for each name, with its description.
    fn series(&self, unit: &'static str, names: &[(&str, &'static str)]) -> Vec<Series> {
        let series = |&(name, what): &(&str, &'static str)| Series {
            name: what,
            unit,
            ours: points(&self.ours, name),
            theirs: points(&self.theirs, name),
        };
        names.iter().map(series).collect()
    }
}

/// Memory of a machine for this many domains of 2 MiB, the hypervisor and Dom0, in MiB.
const MANY_MIB: u32 = 1536;
/// Memory sizes of a guest in MiB.
const GUESTS_MIB: [u32; 2] = [64, 8192];
const VCPUS: [u32; 4] = [1, 2, 4, 8];

/// Measures, prints, and writes docs/SCALING.md and docs/scaling.svg.
///
/// # Errors
/// If a boot fails.
pub fn scaling(options: &Options) -> Result<()> {
    let xen = if options.ours {
        None
    } else {
        Some(runs::xen()?)
    };
    let by_domains = Both::of(xen.as_ref(), |hypervisor| {
        domains(hypervisor, options.domains)
    })?;
    let by_size = Both::of(xen.as_ref(), sizes)?;
    let by_vcpus = Both::of(xen.as_ref(), shoot_downs)?;
    let all: Vec<Series> = [
        by_domains.series(
            "domains",
            &[
                ("event", "an event to another domain and back"),
                ("create", "a domain created"),
                ("schedule", "a yield, all domains runnable"),
                ("frame", "a frame populated"),
            ],
        ),
        by_size.series("MiB of memory", &BY_SIZE),
        by_vcpus.series("vCPUs", &BY_VCPUS),
    ]
    .into_iter()
    .flatten()
    .collect();
    for series in &all {
        print!("{}", text(series));
    }
    if !options.ours {
        let docs = root().join("docs");
        fs::write(docs.join("scaling.svg"), curves::svg(&all)).context("docs/scaling.svg")?;
        fs::write(docs.join("SCALING.md"), document(&all)).context("docs/SCALING.md")?;
    }
    Ok(())
}

/// The figures `NAME@NUMBER` of one name.
fn points(figures: &Figures, name: &str) -> Vec<(u64, u64)> {
    let of_name = figures.iter().filter_map(|(key, value)| {
        let (found, number) = key.split_once('@')?;
        (found == name).then_some((number.parse().ok()?, *value))
    });
    let mut found: Vec<(u64, u64)> = of_name.collect();
    found.sort_unstable();
    found
}

fn domains(hypervisor: &Media, most: u32) -> Result<Figures> {
    let media = Domains::Two.media(hypervisor.clone(), &format!("scaling=domains most={most}"))?;
    let machine = Machine {
        memory_mib: MANY_MIB,
        ..counting_machine()
    };
    machine::dom0_on("bench-scaling", &media, &machine)
}

/// Page-table updates that are measured in guests of different sizes.
const BY_SIZE: [(&str, &str); 2] = [
    ("update_va_mapping_toggle", "update_va_mapping, toggled"),
    ("mmu_update_32", "mmu_update, 32 entries"),
];

fn sizes(hypervisor: &Media) -> Result<Figures> {
    let mut found = Figures::new();
    for mib in GUESTS_MIB {
        let only = format!("only={},{}", BY_SIZE[0].0, BY_SIZE[1].0);
        let hypervisor = hypervisor.clone().and(&format!("dom0_mem={mib}M"));
        let machine = Machine {
            memory_mib: mib + 512,
            ..counting_machine()
        };
        let media = Domains::One.media(hypervisor, &only)?;
        let figures = machine::dom0_on("bench-size", &media, &machine)?;
        for (row, _) in BY_SIZE {
            let figure = figures.get(row).copied().context("a missing figure")?;
            found.insert(format!("{row}@{mib}"), figure);
        }
    }
    Ok(found)
}

/// TLB flushes on all vCPUs of a guest. They are counted in ring 0 alone, since the other vCPUs run all the time.
const BY_VCPUS: [(&str, &str); 2] = [
    ("tlb_flush_all", "TLB flush on all vCPUs"),
    ("invlpg_all", "invlpg on all vCPUs"),
];

fn shoot_downs(hypervisor: &Media) -> Result<Figures> {
    let mut found = Figures::new();
    for (row, _) in BY_VCPUS {
        for vcpus in VCPUS {
            let figure = shoot_down(hypervisor, row, vcpus)?;
            found.insert(format!("{row}@{vcpus}"), figure);
        }
    }
    Ok(found)
}

fn shoot_down(hypervisor: &Media, row: &str, vcpus: u32) -> Result<u64> {
    let scratch = Scratch::new("shoot-down")?;
    let output = scratch.path().join("counts");
    let mut symbols = Symbols::default();
    symbols.add(&artefact("guests/bench"))?;
    let window = symbols.window()?;
    let arguments = format!("scaling=vcpus only={row}");
    let bench = Module::with_arguments(find_file("bench")?, arguments);
    let machine = Machine {
        cpus: vcpus,
        ..machine::with_plugin(&build::counter()?, &output, &window)
    };
    let figures = machine::counted_on(&hypervisor.clone().module(bench), &machine)?;
    let operations = figures.get("operations").copied().unwrap_or_default();
    let counts = counted::counts(&fs::read_to_string(&output)?);
    let in_ring_0: u64 = counts.range(RING_0).map(|(_, count)| count).sum();
    Ok(in_ring_0 / operations.max(1))
}

/// The address range of a hypervisor (L4 slots 256 to 271).
const RING_0: std::ops::Range<u64> = 0xffff_8000_0000_0000..0xffff_8800_0000_0000;

/// Formats a series for the terminal.
fn text(series: &Series) -> String {
    let mut text = format!("{} ({})\n", series.name, series.unit);
    for (number, figure) in &series.ours {
        let peer = series.theirs.iter().find(|(other, _)| other == number);
        let peer = peer.map_or(String::new(), |(_, value)| {
            format!("   Xen {}", table::grouped(*value))
        });
        text.push_str(&format!(
            "{number:>8} {:>12}{peer}\n",
            table::grouped(*figure)
        ));
    }
    text
}

const HEAD: &str = "\
# Scaling

Written by `scripts/bench scaling`: executed instructions, counted as in [BENCHMARKS.md](BENCHMARKS.md), by the number of
domains, the size of the guest, the number of its vCPUs. TLB flushes are counted in ring 0 alone, on all CPUs together.

![Curves](scaling.svg)

";

fn document(all: &[Series]) -> String {
    let mut text = String::from(HEAD);
    text.push_str("| operation | by | xenlike | Xen 4.20 |\n|---|---|---|---|\n");
    let list = |points: &[(u64, u64)]| -> String {
        let words: Vec<String> = points
            .iter()
            .map(|(number, figure)| format!("{number}: {}", table::grouped(*figure)))
            .collect();
        words.join(", ")
    };
    for series in all {
        text.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            series.name,
            series.unit,
            list(&series.ours),
            list(&series.theirs)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Figures, Series, document, points, text};

    #[test]
    fn points_come_in_the_order_of_their_numbers() {
        let figures: Figures = [("event@10", 3), ("event@9", 2), ("frame@1", 5), ("iret", 1)]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        assert_eq!(points(&figures, "event"), [(9, 2), (10, 3)]);
    }

    #[test]
    fn figures_stand_beside_the_peer_of_the_same_number() {
        let series = Series {
            name: "an event",
            unit: "domains",
            ours: vec![(1, 5000), (10, 6000)],
            theirs: vec![(10, 7000)],
        };
        assert!(text(&series).contains("6 000   Xen 7 000"));
        assert!(document(&[series]).contains("1: 5 000, 10: 6 000 | 10: 7 000 |"));
    }
}
