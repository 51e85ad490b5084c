//! The same rows in several panels side by side, a bar from zero in each.

use crate::bench::statistics::Spread;
use crate::chart::svg::{Anchor, Svg, TextStyle};
use crate::chart::{BLUE, GREY, INK, short};

/// One panel: a value for each row, if it has one, on a scale of its own.
#[derive(Clone, Debug)]
pub struct BarPanel {
    /// What stands above it.
    pub heading: String,
    /// In the order of the rows.
    pub values: Vec<Option<Spread>>,
}

/// Between the left edge, the longest name and the first panel.
const EDGE: f64 = 12.0;
const PANEL: f64 = 186.0;
const GAP: f64 = 24.0;
/// For the number behind the longest bar.
const NUMBER: f64 = 46.0;
const ROW: f64 = 26.0;
const TOP: f64 = 62.0;

/// Draws bars as long as the medians, with a thin line from the tenth to the ninetieth percentile.
/// The first row is ours.
pub fn bar_panels(title: &str, unit: &str, rows: &[String], panels: &[BarPanel]) -> String {
    let names = || rows.iter().enumerate();
    let widths = names().map(|(index, name)| style(index).width(name));
    let left = EDGE + widths.fold(0.0, f64::max) + EDGE;
    let width = left + panels.len() as f64 * (PANEL + GAP);
    let width = width.max(EDGE + TextStyle::HEADING.width(title) + EDGE);
    let height = TOP + rows.len() as f64 * ROW + 14.0;
    let mut svg = Svg::new(width, height, title);
    svg.text((EDGE, 24.0), Anchor::Start, TextStyle::HEADING, title);
    for (index, name) in names() {
        let baseline = TOP + index as f64 * ROW + 17.0;
        svg.text((left - EDGE, baseline), Anchor::End, style(index), name);
    }
    for (index, panel) in panels.iter().enumerate() {
        draw(&mut svg, left + index as f64 * (PANEL + GAP), panel, unit);
    }
    svg.finish()
}

fn draw(svg: &mut Svg, left: f64, panel: &BarPanel, unit: &str) {
    svg.text(
        (left, TOP - 14.0),
        Anchor::Start,
        TextStyle::HEADING,
        &format!("{}, {unit}", panel.heading),
    );
    let spreads = panel.values.iter().flatten();
    let largest = spreads
        .map(|one| one.p90.max(one.median))
        .fold(0.0, f64::max);
    let scale = (PANEL - NUMBER) / largest.max(f64::MIN_POSITIVE);
    let bottom = TOP + panel.values.len() as f64 * ROW;
    svg.line((left, TOP), (left, bottom), GREY, 1.0, "");
    for (index, spread) in panel.values.iter().enumerate() {
        let top = TOP + index as f64 * ROW;
        let Some(spread) = spread else {
            let style = TextStyle::AXIS;
            svg.text((left + 6.0, top + 17.0), Anchor::Start, style, "left out");
            continue;
        };
        let colour = if index == 0 { BLUE } else { GREY };
        svg.rectangle((left, top + 4.0), scale * spread.median, ROW - 8.0, colour);
        let middle = top + ROW / 2.0;
        let ends = [spread.p10, spread.p90].map(|value| left + scale * value);
        svg.line((ends[0], middle), (ends[1], middle), INK, 1.5, "");
        let end = ends[1].max(left + scale * spread.median) + 5.0;
        svg.text(
            (end, top + 17.0),
            Anchor::Start,
            style(index),
            &short(spread.median),
        );
    }
}

/// Of a row's texts.
fn style(row: usize) -> TextStyle {
    match row {
        0 => TextStyle::LABEL.strong(BLUE),
        _ => TextStyle::LABEL,
    }
}
