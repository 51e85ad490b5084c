//! The charts on a page.

use crate::chart::svg::{Anchor, Svg, TextStyle};
use crate::chart::{BLUE, GREY, GRID, VERMILION, short};
use crate::evaluate::figure::Histogram;

const LEFT: f64 = 64.0;
const PLOT: f64 = 640.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 66.0;
/// Bars of a histogram.
const BARS: usize = 40;

/// Two histograms on one axis: distances within a scene upwards, between scenes downwards.
pub fn distances(histogram: &Histogram) -> String {
    const HALF: f64 = 90.0;
    let normalised = match histogram.normalised {
        true => "with instance norm",
        false => "without instance norm",
    };
    let title = format!("Content distances by {}, {normalised}", histogram.backbone);
    let mut svg = Svg::new(LEFT + PLOT + RIGHT, TOP + 2.0 * HALF + 44.0, &title);
    svg.text((12.0, 24.0), Anchor::Start, TextStyle::HEADING, &title);
    let both = histogram.same_scene.iter().chain(&histogram.other_scene);
    let largest = both.copied().fold(f64::MIN_POSITIVE, f64::max);
    let sets =
        [&histogram.same_scene, &histogram.other_scene].map(|values| shares(values, largest));
    let highest = sets
        .iter()
        .flatten()
        .copied()
        .fold(f64::MIN_POSITIVE, f64::max);
    let middle = TOP + HALF;
    let bar = PLOT / BARS as f64;
    for (index, (same, other)) in sets[0].iter().zip(&sets[1]).enumerate() {
        let x = LEFT + index as f64 * bar;
        let [up, down] = [same, other].map(|share| HALF * share / highest);
        svg.rectangle((x, middle - up), bar - 1.0, up, BLUE);
        svg.rectangle((x, middle), bar - 1.0, down, VERMILION);
    }
    svg.line((LEFT, middle), (LEFT + PLOT, middle), GREY, 1.0, "");
    let names = [
        ("same scene,", "other domain", BLUE, middle - HALF / 2.0),
        (
            "other scene,",
            "same domain",
            VERMILION,
            middle + HALF / 2.0,
        ),
    ];
    for (first, second, colour, y) in names {
        let style = TextStyle::LABEL.strong(colour);
        for (line, offset) in [(first, -4.0), (second, 13.0)] {
            svg.text((LEFT + PLOT + 12.0, y + offset), Anchor::Start, style, line);
        }
    }
    let bottom = TOP + 2.0 * HALF;
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let x = LEFT + PLOT * share;
        svg.line((x, bottom), (x, bottom + 5.0), GREY, 1.0, "");
        let text = short(largest * share);
        svg.text((x, bottom + 20.0), Anchor::Middle, TextStyle::AXIS, &text);
    }
    let end = (LEFT + PLOT, bottom + 38.0);
    svg.text(end, Anchor::End, TextStyle::AXIS, "content distance");
    svg.finish()
}

/// Shares of the values in bars of equal width from 0 to `largest`.
fn shares(values: &[f64], largest: f64) -> [f64; BARS] {
    let mut shares = [0.0; BARS];
    for value in values {
        let place = (value / largest * BARS as f64) as usize;
        shares[place.min(BARS - 1)] += 1.0 / values.len() as f64;
    }
    shares
}

/// One figure of a clip, frame by frame, beside that of the clip itself.
pub fn course(title: &str, frames: &[usize], made: &[f64], clip: &[f64]) -> String {
    const HEIGHT: f64 = 170.0;
    let bottom = TOP + HEIGHT;
    let mut svg = Svg::new(LEFT + PLOT + RIGHT, bottom + 44.0, title);
    svg.text((12.0, 24.0), Anchor::Start, TextStyle::HEADING, title);
    let largest = made
        .iter()
        .chain(clip)
        .copied()
        .fold(f64::MIN_POSITIVE, f64::max);
    let last = frames.last().copied().unwrap_or(1).max(1) as f64;
    let y = |value: f64| bottom - HEIGHT * value / largest;
    for tick in 0..=4 {
        let value = largest * f64::from(tick) / 4.0;
        svg.line((LEFT, y(value)), (LEFT + PLOT, y(value)), GRID, 1.0, "");
        let text = match largest < 0.1 {
            true => format!("{value:.4}"),
            false => short(value),
        };
        svg.text(
            (LEFT - 8.0, y(value) + 4.0),
            Anchor::End,
            TextStyle::AXIS,
            &text,
        );
    }
    let mut ends = [made, clip].map(|values| y(values.last().copied().unwrap_or_default()) + 4.5);
    // Names that would stand on one another.
    let apart = ends[1] - ends[0];
    if apart.abs() < 17.0 {
        let more = (17.0 - apart.abs()) / 2.0 * if apart < 0.0 { -1.0 } else { 1.0 };
        ends = [ends[0] - more, ends[1] + more];
    }
    let lines = [
        ("translation", made, BLUE, ends[0]),
        ("the clip itself", clip, GREY, ends[1]),
    ];
    for (name, values, colour, baseline) in lines {
        let points: Vec<_> = frames
            .iter()
            .zip(values)
            .map(|(frame, value)| (LEFT + PLOT * *frame as f64 / last, y(*value)))
            .collect();
        svg.path(&points, colour);
        let style = TextStyle::LABEL.strong(colour);
        svg.text((LEFT + PLOT + 12.0, baseline), Anchor::Start, style, name);
    }
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let x = LEFT + PLOT * share;
        svg.line((x, bottom), (x, bottom + 5.0), GREY, 1.0, "");
        let text = format!("{:.0}", last * share);
        svg.text((x, bottom + 20.0), Anchor::Middle, TextStyle::AXIS, &text);
    }
    svg.text(
        (LEFT + PLOT, bottom + 38.0),
        Anchor::End,
        TextStyle::AXIS,
        "frame",
    );
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bar() {
        let found = shares(&[0.0, 0.5, 1.0, 1.0], 1.0);
        assert_eq!(
            (found[0], found[BARS / 2], found[BARS - 1]),
            (0.25, 0.25, 0.5)
        );
        assert_eq!(found.iter().sum::<f64>(), 1.0);
    }
}
