//! Text tables in xl's format: a heading, left-aligned names, right-aligned numbers.

use alloc::string::String;
use alloc::vec::Vec;

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Left-aligned, for names.
    Left,
    /// Right-aligned, for numbers.
    Right,
}

/// A table under construction.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Starts a table with this heading.
    #[must_use]
    pub fn new(heading: &[(&str, Align)]) -> Table {
        Table {
            columns: heading.iter().map(|(_, align)| *align).collect(),
            rows: alloc::vec![
                heading
                    .iter()
                    .map(|(title, _)| String::from(*title))
                    .collect()
            ],
        }
    }

    /// Adds a row of cells.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Formats the lines of the table.
    #[must_use]
    pub fn print(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), align) in row.iter().zip(&widths).zip(&self.columns) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                match align {
                    Align::Left => line.push_str(&alloc::format!("{cell:<width$}")),
                    Align::Right => line.push_str(&alloc::format!("{cell:>width$}")),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("Name", Align::Left), ("ID", Align::Right)]);
        table.row(["Domain-0".into(), "0".into()]);
        table.row(["a".into(), "117".into()]);
        assert_eq!(
            table.print(),
            "Name       ID\nDomain-0    0\na         117\n"
        );
    }
}
