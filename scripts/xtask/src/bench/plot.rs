//! docs/benchmarks.svg: draws the ratios as bars.

use super::rows::Goal;
use super::table::{Line, Table};
use std::fmt::Write as _;

const BAR: u32 = 14;
const STEP: u32 = 18;
const LEFT: f64 = 190.0;
/// Width of a ratio of 1 in pixels.
const UNIT: f64 = 400.0;
/// Larger ratios are cut off here.
const MAX_RATIO: f64 = 1.5;
const TOP: u32 = 40;
const WIDTH: f64 = LEFT + UNIT * MAX_RATIO + 60.0;

/// A style that is readable on light and dark pages.
const STYLE: &str = "\
<style>
text { font: 11px sans-serif; fill: #57606a }
.reached { fill: #2da44e } .missed { fill: #bf8700 } .above { fill: #cf222e }
.target { stroke: #57606a; stroke-width: 2 } .one { stroke: #57606a; stroke-dasharray: 4 3 }
</style>
";

/// Draws the picture.
pub fn svg(table: &Table) -> String {
    let bars: Vec<(&Line, f64, f64)> = table
        .lines
        .iter()
        .filter_map(|line| match line.row.goal {
            Goal::Ratio(target) => Some((line, line.ratio()?, target)),
            Goal::Bytes(_) | Goal::Told => None,
        })
        .collect();
    let count = u32::try_from(bars.len()).unwrap_or(u32::MAX);
    let height = TOP + STEP * count + 20;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\">\n{STYLE}<text x=\"{LEFT}\" y=\"16\">instructions, ratio to Xen 4.20 (mark: \
         target)</text>\n"
    );
    let one = LEFT + UNIT;
    // Writing to a String can't fail.
    let _ = writeln!(
        text,
        "<line class=\"one\" x1=\"{one}\" x2=\"{one}\" y1=\"{}\" y2=\"{height}\"/>\
         <text x=\"{}\" y=\"34\">Xen</text>",
        TOP - 4,
        one - 10.0
    );
    let mut y = TOP;
    for (line, ratio, target) in bars {
        text.push_str(&bar(line.row.name, ratio, target, y));
        y += STEP;
    }
    text.push_str("</svg>\n");
    text
}

/// Draws a row's bar, its target and its number.
fn bar(name: &str, ratio: f64, target: f64, y: u32) -> String {
    let class = if ratio <= target {
        "reached"
    } else if ratio <= 1.0 {
        "missed"
    } else {
        "above"
    };
    let width = ratio.min(MAX_RATIO) * UNIT;
    let (mark, base, end) = (LEFT + target * UNIT, y + BAR - 3, LEFT + width + 5.0);
    format!(
        "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{name}</text>\
         <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\"/>\
         <line class=\"target\" x1=\"{mark}\" x2=\"{mark}\" y1=\"{y}\" y2=\"{}\"/>\
         <text x=\"{end:.1}\" y=\"{base}\">{ratio:.2}</text>\n",
        LEFT - 6.0,
        y + BAR
    )
}

#[cfg(test)]
mod tests {
    use super::{Table, svg};
    use crate::bench::machine::Figures;

    #[test]
    fn each_row_with_a_ratio_has_a_bar() {
        let figures = |value| -> Figures { [("iret".to_owned(), value)].into() };
        let picture = svg(&Table::new(&figures(300), &figures(200)));
        assert!(picture.contains(">iret<") && picture.contains("class=\"above\""));
        assert_eq!(picture.matches("<rect").count(), 1);
        assert!(picture.contains(">1.50<"));
    }
}
