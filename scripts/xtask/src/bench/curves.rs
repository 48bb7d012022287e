//! docs/scaling.svg: a small plot for each series.

use super::scaling::Series;
use super::table::grouped;

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 170.0;
/// Position of a plot's axes.
const LEFT: f64 = 64.0;
const TOP: f64 = 34.0;
const RIGHT: f64 = WIDTH - 16.0;
const BOTTOM: f64 = HEIGHT - 34.0;
const COLUMNS: usize = 3;

const STYLE: &str = "\
<style>
text { font: 11px sans-serif; fill: #57606a }
.axis { stroke: #57606a } .ours { stroke: #2da44e } .theirs { stroke: #8250df }
polyline { fill: none; stroke-width: 2 }
</style>
";

/// Draws the picture.
pub fn svg(all: &[Series]) -> String {
    let rows = all.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * number(COLUMNS), HEIGHT * number(rows) + 20.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\">\n{STYLE}<text x=\"8\" y=\"14\">instructions; green: xenlike, violet: Xen 4.20; the \
         lower axis is logarithmic</text>\n"
    );
    for (index, series) in all.iter().enumerate() {
        let (x, y) = (
            WIDTH * number(index % COLUMNS),
            20.0 + HEIGHT * number(index / COLUMNS),
        );
        text.push_str(&format!(
            "<g transform=\"translate({x} {y})\">{}</g>\n",
            plot(series)
        ));
    }
    text.push_str("</svg>\n");
    text
}

#[expect(clippy::cast_precision_loss, reason = "small numbers, or pixels")]
fn number(value: usize) -> f64 {
    value as f64
}

/// Plots a series: instructions from 0 upwards, over the logarithm of the number.
fn plot(series: &Series) -> String {
    let all = || series.ours.iter().chain(&series.theirs);
    let highest = all().map(|(_, figure)| *figure).max().unwrap_or(1).max(1);
    let first = all().map(|(at, _)| *at).min().unwrap_or(1).max(1);
    let last = all().map(|(at, _)| *at).max().unwrap_or(1).max(first + 1);
    let number = |value: u64| number(usize::try_from(value).unwrap_or(usize::MAX));
    let x = |at: u64| {
        let share = (number(at) / number(first)).ln() / (number(last) / number(first)).ln();
        LEFT + share * (RIGHT - LEFT)
    };
    let y = |figure: u64| BOTTOM - number(figure) / number(highest) * (BOTTOM - TOP);
    let line = |class: &str, points: &[(u64, u64)]| {
        let places: Vec<String> = points
            .iter()
            .map(|(at, figure)| format!("{:.1},{:.1}", x(*at), y(*figure)))
            .collect();
        format!(
            "<polyline class=\"{class}\" points=\"{}\"/>",
            places.join(" ")
        )
    };
    let ticks: String = series
        .ours
        .iter()
        .map(|(at, _)| {
            let (x, y) = (x(*at), BOTTOM + 14.0);
            format!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{at}</text>")
        })
        .collect();
    format!(
        "<text x=\"8\" y=\"22\">{}, by {}</text>\
         <line class=\"axis\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>\
         <line class=\"axis\" x1=\"{LEFT}\" x2=\"{LEFT}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>{ticks}{}{}",
        series.name,
        series.unit,
        LEFT - 4.0,
        TOP + 8.0,
        grouped(highest),
        line("theirs", &series.theirs),
        line("ours", &series.ours)
    )
}

#[cfg(test)]
mod tests {
    use super::{Series, svg};

    #[test]
    fn the_highest_figure_is_at_the_top_and_the_last_number_at_the_right() {
        let series = Series {
            name: "an event",
            unit: "domains",
            ours: vec![(1, 50), (100, 100)],
            theirs: Vec::new(),
        };
        let picture = svg(&[series]);
        assert!(
            picture.contains("points=\"64.0,85.0 284.0,34.0\""),
            "{picture}"
        );
    }
}
