//! Figures side by side: ratios, their mean, and rows that became worse.

use super::machine::Figures;
use super::rows::{Goal, ROWS, Row};
use std::fmt::Write as _;

/// A row with its figures, in executed instructions.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The row's name and target.
    pub row: &'static Row,
    /// xenlike's figure, if measured.
    pub ours: Option<u64>,
    /// Xen's figure, if measured.
    pub theirs: Option<u64>,
    /// xenlike's figure for a 32-bit guest, if measured.
    pub narrow: Option<u64>,
}

impl Line {
    /// xenlike's figure divided by Xen's, where that is meaningful.
    pub fn ratio(&self) -> Option<f64> {
        match self.row.goal {
            Goal::Ratio(_) => Some(quotient(self.ours?, self.theirs?)),
            Goal::Bytes(_) | Goal::Told => None,
        }
    }

    /// Whether xenlike takes no more than Xen.
    pub fn within_xen(&self) -> Option<bool> {
        Some(self.ratio()? <= 1.0)
    }

    /// Whether the ratio meets its target; `None` without a target or a ratio.
    pub fn reached(&self) -> Option<bool> {
        match self.row.goal {
            Goal::Ratio(target) => Some(self.ratio()? <= target),
            Goal::Bytes(_) | Goal::Told => None,
        }
    }
}

/// All lines that have a figure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The lines in the order of the rows.
    pub lines: Vec<Line>,
}

impl Table {
    /// Puts the figures of both side by side.
    pub fn new(ours: &Figures, theirs: &Figures) -> Self {
        let lines = ROWS.iter().map(|row| Line {
            row,
            ours: ours.get(row.name).copied(),
            theirs: theirs.get(row.name).copied(),
            narrow: None,
        });
        let told = lines.filter(|line| line.ours.is_some() || line.theirs.is_some());
        Self {
            lines: told.collect(),
        }
    }

    /// Adds the figures for a 32-bit guest to the lines that there are.
    #[must_use]
    pub fn with_narrow(mut self, narrow: &Figures) -> Self {
        for line in &mut self.lines {
            line.narrow = narrow.get(line.row.name).copied();
        }
        self
    }

    /// Xen's figures.
    pub fn figures_of_xen(&self) -> Figures {
        let lines = self.lines.iter();
        let known = lines.filter_map(|line| Some((line.row.name.to_owned(), line.theirs?)));
        known.collect()
    }

    /// Keeps only the lines with a figure of xenlike's.
    #[must_use]
    pub fn of_ours(mut self) -> Self {
        self.lines.retain(|line| line.ours.is_some());
        self
    }

    /// The geometric mean of the ratios that count; `None` if there are none.
    pub fn mean(&self) -> Option<f64> {
        let ratios = self.lines.iter().filter_map(Line::ratio);
        let logarithms: Vec<f64> = ratios.map(f64::ln).collect();
        let count = u32::try_from(logarithms.len()).ok().filter(|it| *it > 0)?;
        Some((logarithms.iter().sum::<f64>() / f64::from(count)).exp())
    }

    /// The line of a row.
    pub fn line(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.row.name == name)
    }

    /// Rows that met their target in `before`, or needed no more than Xen, and no longer do.
    pub fn fallen(&self, before: &Self) -> Vec<&Line> {
        let fell = |line: &&Line| {
            before.line(line.row.name).is_some_and(|old| {
                old.reached() == Some(true) && line.reached() == Some(false)
                    || old.within_xen() == Some(true) && line.within_xen() == Some(false)
            })
        };
        self.lines.iter().filter(fell).collect()
    }

    /// Formats the table for a terminal, with changes since `before`.
    pub fn text(&self, before: &Self) -> String {
        let mut text = String::from("executed instructions; ratio below 1: xenlike needs fewer\n");
        let (ours, theirs, narrow) = ("xenlike", "Xen 4.20", "32-bit guest");
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "{:<26} {theirs:>13} {ours:>13} {:>6} {:>6} {narrow:>13}  since the document",
            "", "ratio", "target"
        );
        for line in &self.lines {
            let ratio = line.ratio().map_or(String::new(), |it| format!("{it:.2}"));
            let target = match line.row.goal {
                Goal::Ratio(target) => format!("{target:.2}"),
                Goal::Bytes(count) => format!("{count} bytes"),
                Goal::Told => String::new(),
            };
            let told = format!(
                "{:<26} {:>13} {:>13} {ratio:>6} {target:>6} {:>13}  {}",
                line.row.name,
                shown(line.theirs),
                shown(line.ours),
                shown(line.narrow),
                changes(before.line(line.row.name), line)
            );
            let _ = writeln!(text, "{}", told.trim_end());
        }
        if let Some(mean) = self.mean() {
            let _ = writeln!(text, "{:<54} {mean:>6.2}   0.45", "geometric mean");
        }
        text
    }
}

/// The differences in instructions since `before`, for a 64-bit guest and for a 32-bit one; empty if there are none.
fn changes(before: Option<&Line>, now: &Line) -> String {
    let wide = change(before.and_then(|line| line.ours), now.ours);
    let narrow = change(before.and_then(|line| line.narrow), now.narrow);
    if narrow.is_empty() {
        wide
    } else {
        format!("{wide:<8} 32-bit: {narrow}")
    }
}

fn change(before: Option<u64>, now: Option<u64>) -> String {
    match (before, now) {
        (Some(old), Some(new)) if new > old => format!("+{}", grouped(new - old)),
        (Some(old), Some(new)) if new < old => format!("-{}", grouped(old - new)),
        _ => String::new(),
    }
}

/// A quotient for display.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn quotient(dividend: u64, divisor: u64) -> f64 {
    dividend as f64 / divisor.max(1) as f64
}

/// A figure for display; empty if there is none.
pub fn shown(figure: Option<u64>) -> String {
    figure.map_or(String::new(), grouped)
}

/// Formats a number with groups of three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Figures, Table, grouped};

    fn table(ours: &[(&str, u64)], theirs: &[(&str, u64)]) -> Table {
        let figures = |list: &[(&str, u64)]| -> Figures {
            list.iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect()
        };
        Table::new(&figures(ours), &figures(theirs))
    }

    #[test]
    fn digits_are_grouped_from_the_right() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(626_700), "626 700");
        assert_eq!(grouped(1_000_000), "1 000 000");
    }

    #[test]
    fn the_mean_is_geometric_and_of_rows_with_a_target() {
        let ours = [
            ("xen_version", 100),
            ("iret", 400),
            ("grant_copy_4096_bytes", 9),
        ];
        let theirs = [
            ("xen_version", 200),
            ("iret", 200),
            ("grant_copy_4096_bytes", 1),
        ];
        let mean = table(&ours, &theirs).mean().expect("two ratios");
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
        assert_eq!(table(&ours, &[]).mean(), None);
    }

    #[test]
    fn a_row_falls_back_when_it_had_reached_its_target() {
        let theirs = [("iret", 200), ("rdmsr_efer", 200)];
        let before = table(&[("iret", 100), ("rdmsr_efer", 150)], &theirs);
        let after = table(&[("iret", 101), ("rdmsr_efer", 160)], &theirs);
        let fallen = after.fallen(&before);
        assert_eq!(fallen.len(), 1);
        assert_eq!(fallen[0].row.name, "iret");
        assert!(before.fallen(&before).is_empty());
    }

    #[test]
    fn a_row_falls_back_when_it_comes_to_need_more_than_xen() {
        let theirs = [("iret", 200)];
        let (within, above) = (
            table(&[("iret", 200)], &theirs),
            table(&[("iret", 201)], &theirs),
        );
        assert_eq!(above.fallen(&within).len(), 1);
        assert!(above.fallen(&above).is_empty() && within.fallen(&above).is_empty());
    }

    #[test]
    fn what_changed_is_told() {
        let (before, after) = (table(&[("iret", 200)], &[]), table(&[("iret", 190)], &[]));
        assert!(after.text(&before).contains("-10\n"));
        assert!(before.text(&after).contains("+10\n"));
        let narrow = |figure| {
            after
                .clone()
                .with_narrow(&[("iret".to_owned(), figure)].into())
        };
        let text = narrow(120).text(&narrow(125));
        assert!(text.contains("  32-bit: -5\n"), "{text}");
    }
}
