//! Two values in each row on one logarithmic axis: ours, and what it is measured against.

use crate::chart::svg::{Anchor, Svg, TextStyle};
use crate::chart::{BLUE, GREY, GRID, short};

/// One row.
#[derive(Clone, Debug)]
pub struct DotRow {
    /// What it is called.
    pub name: String,
    /// Ours, a filled dot.
    pub value: f64,
    /// What ours can reach at most, a ring.
    pub limit: f64,
}

/// Between the left edge and the longest name.
const EDGE: f64 = 12.0;
/// Between a name and the plot.
const GAP: f64 = 14.0;
const PLOT: f64 = 480.0;
const RIGHT: f64 = 150.0;
const ROW: f64 = 28.0;
const TOP: f64 = 76.0;

/// Draws the rows with lines at `marks`, values with a name.
pub fn dot_rows(
    title: &str,
    explanation: &str,
    unit: &str,
    rows: &[DotRow],
    marks: &[(f64, &str)],
) -> String {
    let bottom = TOP + rows.len() as f64 * ROW;
    let widths = rows.iter().map(|row| TextStyle::LABEL.width(&row.name));
    let left = EDGE + widths.fold(0.0, f64::max) + GAP;
    let width = (left + PLOT + RIGHT).max(EDGE + TextStyle::HEADING.width(title) + EDGE);
    let mut svg = Svg::new(width, bottom + 44.0, title);
    svg.text((EDGE, 24.0), Anchor::Start, TextStyle::HEADING, title);
    svg.text((EDGE, 44.0), Anchor::Start, TextStyle::AXIS, explanation);
    let values = || rows.iter().flat_map(|row| [row.value, row.limit]);
    let axis = Axis::around(left, values(), marks.iter().map(|(value, _)| *value));
    for value in axis.ticks() {
        let x = axis.x(value);
        svg.line((x, TOP), (x, bottom), GRID, 1.0, "");
        svg.text(
            (x, bottom + 18.0),
            Anchor::Middle,
            TextStyle::AXIS,
            &tick(value),
        );
    }
    svg.text(
        (left + PLOT, bottom + 36.0),
        Anchor::End,
        TextStyle::AXIS,
        unit,
    );
    for (value, name) in marks {
        let x = axis.x(*value);
        svg.line((x, TOP - 8.0), (x, bottom), GREY, 1.0, "4 3");
        svg.text((x, TOP - 12.0), Anchor::Middle, TextStyle::AXIS, name);
    }
    for (index, row) in rows.iter().enumerate() {
        let middle = TOP + (index as f64 + 0.5) * ROW;
        let baseline = middle + 4.5;
        svg.text(
            (left - GAP, baseline),
            Anchor::End,
            TextStyle::LABEL,
            &row.name,
        );
        let [value, limit] = [row.value, row.limit].map(|value| axis.x(value));
        svg.line((value, middle), (limit, middle), GREY, 1.5, "");
        svg.dot((limit, middle), 6.0, GREY, false);
        svg.dot((value, middle), 4.0, BLUE, true);
        let text = format!(
            "{} ({:.0} %)",
            short(row.value),
            100.0 * row.value / row.limit
        );
        let style = TextStyle::LABEL.strong(BLUE);
        svg.text(
            (value.max(limit) + 12.0, baseline),
            Anchor::Start,
            style,
            &text,
        );
    }
    svg.finish()
}

struct Axis {
    left: f64,
    low: f64,
    high: f64,
}

impl Axis {
    /// Begins at `left` and holds all of these with room beside them.
    fn around(
        left: f64,
        values: impl Iterator<Item = f64>,
        marks: impl Iterator<Item = f64>,
    ) -> Self {
        let logs: Vec<f64> = values.chain(marks).map(f64::log10).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self {
            left,
            low: low - 0.1,
            high: high + 0.1,
        }
    }

    fn x(&self, value: f64) -> f64 {
        self.left + PLOT * (value.log10() - self.low) / (self.high - self.low)
    }

    /// 1, 2 and 5 times the powers of ten.
    fn ticks(&self) -> Vec<f64> {
        let decades = self.low.floor() as i32..=self.high.ceil() as i32;
        decades
            .flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(decade)))
            .filter(|value| (self.low..=self.high).contains(&value.log10()))
            .collect()
    }
}

fn tick(value: f64) -> String {
    format!("{value}")
}
