//! The section of docs/BENCHMARKS.md between two marks.

use super::boot::Boot;
use super::guests::Place;
use super::rows::ROWS;
use crate::bench::machine::Figures;
use crate::bench::table::{quotient, shown};
use std::fmt::Write as _;

const BEGIN: &str = "<!-- written by scripts/bench dom0 -->\n";
const END: &str = "<!-- /scripts/bench dom0 -->\n";

const HEAD: &str = "
## Linux as Dom0, and as DomU

Written by `scripts/bench dom0`: Debian's kernel 6.12 under both hypervisors, on the same machine as above with 1 GiB, 512
MiB of it Dom0's. Bold ratios miss their target.
";

/// The section of a document, to be kept in a new one; empty if there is none.
pub fn kept(text: &str) -> &str {
    let found = text.find(BEGIN).zip(text.find(END));
    found
        .and_then(|(from, to)| text.get(from..to + END.len()))
        .unwrap_or_default()
}

/// The document with these parts in its section; its other parts are kept.
pub fn replace(text: &str, parts: &str) -> String {
    let old = kept(text);
    let section = merged(old.strip_suffix(END).unwrap_or_default(), parts);
    let before = if old.is_empty() {
        format!("{}\n", text.trim_end())
    } else {
        text.replace(old, "")
    };
    format!("{before}{BEGIN}{HEAD}{section}{END}")
}

/// The beginning of a part.
const PART: &str = "\n### ";

/// Merges the parts of both; of those with the same title, the newer is used.
fn merged(old: &str, new: &str) -> String {
    let by_title = |text: &str| -> Vec<(String, String)> {
        let parts = text.split(PART).skip(1);
        let titled = parts.map(|part| {
            let title = part.lines().next().unwrap_or_default().to_owned();
            (title, format!("{PART}{part}"))
        });
        titled.collect()
    };
    let mut all = by_title(old);
    for (title, part) in by_title(new) {
        match all.iter_mut().find(|(known, _)| *known == title) {
            Some(known) => known.1 = part,
            None => all.push((title, part)),
        }
    }
    all.into_iter().map(|(_, part)| part).collect()
}

/// The table of boots, with xenlike's and Xen's figures.
pub fn boots([ours, theirs]: &[Boot; 2]) -> String {
    let mut text = String::from(
        "\n### From power-on to init\n\nThe boot domain's instructions count with the hypervisor's own, which are those at \
         addresses in L4 slots 256 to 271.\n\n| | Xen 4.20 | xenlike | ratio | target |\n|---|--:|--:|--:|--:|\n",
    );
    let own = |boot: &Boot| boot.hypervisor + boot.boot_domain;
    let lines = [
        (
            "all instructions, 1 CPU",
            theirs.total,
            ours.total,
            Some(1.0),
        ),
        ("the hypervisor's own", own(theirs), own(ours), Some(0.6)),
        (
            "of them the boot domain's",
            theirs.boot_domain,
            ours.boot_domain,
            None,
        ),
        (
            "before the hypervisor's first there: firmware, GRUB, entry",
            theirs.before,
            ours.before,
            None,
        ),
    ];
    for (what, theirs, ours, target) in lines {
        write_line(&mut text, what, Some(theirs), Some(ours), target);
    }
    let (xen, xenlike) = (median(&theirs.seconds), median(&ours.seconds));
    // Writing to a String can't fail.
    let _ = writeln!(
        text,
        "| seconds, 2 CPUs, median of {} runs in turn | {xen:.2} | {xenlike:.2} | {:.2} | |",
        ours.seconds.len(),
        xenlike / xen
    );
    text
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The table of the processes' rows.
pub fn rows(place: Place, ours: &Figures, theirs: &Figures) -> String {
    let title = match place {
        Place::Dom0 => "Processes in Dom0",
        Place::DomU => "Processes in a DomU",
    };
    let mut text = format!(
        "\n### {title}, instructions\n\n| operation | Xen 4.20 | xenlike | ratio | target |\n|---|--:|--:|--:|--:|\n"
    );
    for row in &ROWS {
        let what = format!("{}, `{}`", row.what, row.name);
        let (theirs, ours) = (theirs.get(row.name), ours.get(row.name));
        write_line(
            &mut text,
            &what,
            theirs.copied(),
            ours.copied(),
            Some(row.target),
        );
    }
    text
}

fn write_line(
    text: &mut String,
    what: &str,
    theirs: Option<u64>,
    ours: Option<u64>,
    target: Option<f64>,
) {
    let ratio = ours.zip(theirs).filter(|(_, theirs)| *theirs > 0);
    let ratio = ratio.map(|(ours, theirs)| quotient(ours, theirs));
    let told = match (ratio, target) {
        (Some(ratio), Some(target)) if ratio > target => format!("**{ratio:.2}**"),
        (Some(ratio), _) => format!("{ratio:.2}"),
        (None, _) => String::new(),
    };
    let target = target.map_or(String::new(), |target| format!("{target:.2}"));
    let (theirs, ours) = (shown(theirs), shown(ours));
    // Writing to a String can't fail.
    let _ = writeln!(text, "| {what} | {theirs} | {ours} | {told} | {target} |");
}

#[cfg(test)]
mod tests {
    use super::{Boot, Figures, Place, boots, kept, median, replace, rows};

    #[test]
    fn the_section_is_replaced_and_kept() {
        let once = replace("# Benchmarks\n", "\n### A\n\none\n\n### B\n\nother\n");
        let twice = replace(&once, "\n### A\n\ntwo\n");
        assert!(twice.starts_with("# Benchmarks\n") && twice.contains("two\n"));
        assert!(!twice.contains("one\n") && twice.contains("other\n"));
        assert_eq!(replace(&twice, "\n### A\n\none\n"), once);
        assert!(twice.ends_with(kept(&twice)) && kept("nothing").is_empty());
    }

    #[test]
    fn what_misses_its_target_is_bold() {
        let figures = |value| -> Figures { [("linux_syscall".to_owned(), value)].into() };
        let table = rows(Place::Dom0, &figures(80), &figures(100));
        assert!(table.contains("| 100 | 80 | **0.80** | 0.75 |"));
        let table = rows(Place::DomU, &figures(70), &figures(100));
        assert!(table.contains("| 100 | 70 | 0.70 | 0.75 |"));
    }

    #[test]
    fn the_boot_domain_counts_with_the_hypervisor() {
        let boot = |hypervisor, boot_domain| Boot {
            total: 1000,
            hypervisor,
            boot_domain,
            seconds: vec![3.0, 1.0, 2.0],
            ..Boot::default()
        };
        let table = boots(&[boot(30, 20), boot(100, 0)]);
        assert!(table.contains("| the hypervisor's own | 100 | 50 | 0.50 | 0.60 |"));
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
    }
}
