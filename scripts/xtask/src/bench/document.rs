//! docs/BENCHMARKS.md: writes and reads back the committed figures.

use super::machine::Figures;
use super::rows::{Goal, find};
use super::table::{Line, Table, shown};
use std::fmt::Write as _;

const HEAD: &str = "\
# Benchmarks

Written by `scripts/bench`. The same guest (`guests/bench`) runs as Dom0 under Debian's
Xen 4.20 and under xenlike, booted by GRUB on the same emulated machine: one CPU, whose time-stamp counter counts
executed instructions (QEMU, `-icount shift=0`). The figures are exact and the same in every run. They contain the
guest's own part: its system-call stub, its handlers. [ADR 10](adr/0010-benchmarks-count-instructions.md) says why it is
done so.

";

const PLOT: &str = "![Ratios](benchmarks.svg)\n\n";

const NOTES: &str = "
Rows ruled by repeated string instructions, each of whose iterations counts as one, are told in bytes and stay out of the
mean, as do those without a target. A row that had reached its target, or needed no more
than Xen, and doesn't any more makes `scripts/bench` fail. [PROFILES.md](PROFILES.md) says where the instructions go of rows
above their target.

The last column is xenlike's with the guest's 32-bit form. Debian builds Xen without 32-bit PV guests, so there are no figures
to compare with, and no targets. The operations are the same, with these differences. Hypercalls are made by `int 0x82`, and
the system calls of a process by `int 0x80`. #GP is raised by a null stack selector, where the 64-bit guest uses a
non-canonical address. The trapped store writes the low half of an entry. The tree has 3 levels. In the rows about two domains,
Dom0 is 64-bit and the other domain 32-bit, which it becomes when it is built; its program is smaller, as it has no toolstack.
";

/// Formats the document.
pub fn write(table: &Table) -> String {
    let mut text = String::from(HEAD);
    text.push_str(PLOT);
    text.push_str(
        "| operation | row | Xen 4.20 | xenlike | ratio | target | xenlike, 32-bit guest |\n|---|---|--:|--:|--:|--:|--:|\n",
    );
    for line in &table.lines {
        write_line(&mut text, line);
    }
    if let Some(mean) = table.mean() {
        let _ = writeln!(
            text,
            "| **geometric mean** | | | | **{mean:.2}** | 0.45 | |"
        );
    }
    text.push_str(NOTES);
    text
}

fn write_line(text: &mut String, line: &Line) {
    let ratio = line.ratio().map_or(String::new(), |it| format!("{it:.2}"));
    let (ratio, target) = match (line.row.goal, line.reached()) {
        (Goal::Ratio(target), Some(false)) => (format!("**{ratio}**"), format!("{target:.2}")),
        (Goal::Ratio(target), _) => (ratio, format!("{target:.2}")),
        (Goal::Bytes(count), _) => (format!("{count} bytes"), String::new()),
        (Goal::Told, _) => (ratio, String::new()),
    };
    // Writing to a String can't fail.
    let _ = writeln!(
        text,
        "| {} | `{}` | {} | {} | {ratio} | {target} | {} |",
        line.row.what,
        line.row.name,
        shown(line.theirs),
        shown(line.ours),
        shown(line.narrow)
    );
}

/// Reads the table of a document.
pub fn read(text: &str) -> Table {
    let (mut ours, mut theirs, mut narrow) = (Figures::new(), Figures::new(), Figures::new());
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, _, name, xen, xenlike, ref rest @ ..] = cells[..] else {
            continue;
        };
        let Some(row) = find(name.trim_matches('`')) else {
            continue;
        };
        let figure = |cell: &str| cell.replace(' ', "").parse().ok();
        ours.extend(figure(xenlike).map(|it| (row.name.to_owned(), it)));
        theirs.extend(figure(xen).map(|it| (row.name.to_owned(), it)));
        // Behind the ratio and the target. Older documents don't have it.
        let last = rest.get(2).and_then(|cell| figure(cell));
        narrow.extend(last.map(|it| (row.name.to_owned(), it)));
    }
    Table::new(&ours, &theirs).with_narrow(&narrow)
}

#[cfg(test)]
mod tests {
    use super::{Figures, Table, read, write};

    #[test]
    fn what_is_written_is_read_back() {
        let ours: Figures = [
            ("xen_version".to_owned(), 177),
            ("mmu_update_512".to_owned(), 271_106),
            ("boot_to_prompt".to_owned(), 5),
        ]
        .into();
        let theirs: Figures = [("xen_version".to_owned(), 277)].into();
        let narrow: Figures = [("mmu_update_512".to_owned(), 301_415)].into();
        let table = Table::new(&ours, &theirs).with_narrow(&narrow);
        assert_eq!(read(&write(&table)), table);
        assert!(read("nothing").lines.is_empty());
    }

    #[test]
    fn a_document_without_32_bit_guests_is_read() {
        let table = read("| null hypercall | `xen_version` | 277 | 109 | **0.39** | 0.35 |\n");
        let line = table.line("xen_version").expect("a line");
        assert_eq!(
            (line.theirs, line.ours, line.narrow),
            (Some(277), Some(109), None)
        );
    }
}
